// Show results: pictures in a justified grid, captions as cards, placeholders while they load.

import { h } from "../shared/dom.js";
import { isClose } from "../shared/hits.js";
import { texts } from "../texts/en/search.js";
import { GAP, justify, ratioOf, rowHeight } from "./justified-layout.js";
import { focusLink, moveWithArrowKeys } from "./keyboard.js";
import { createCard, createTile, showPlaceholders } from "./tiles.js";

/** Height in pixels of the line between close and distant results. */
const LINE = 64;
/** Of more tiles than this, only those near the window are in the document: within these pixels. */
const MANY = 1000;
const MARGIN = 4000;

/**
 * @param {HTMLElement} container
 * @param {import("./tiles.js").Handlers & {onLeave: () => void}} handlers
 */
export function createGrid(container, handlers) {
  const list = h("ul", { class: "grid", role: "list", "aria-label": texts.results.label });
  const line = h("li", { class: "line", hidden: true, role: "presentation" }, h("span", {}));
  const updateTabOrder = moveWithArrowKeys(list, "a", handlers.onLeave);
  let tiles = [];
  let ratios = [];
  let places = []; // the top and bottom of each tile in the list, in pixels
  let split = -1;
  let close = true;
  // Rows may only be balanced if no more pictures follow: those already shown must not move.
  let balance = { near: false, far: false };
  let complete = true;
  let kind = "images";
  let width = 0;
  container.append(list);

  function arrange() {
    width = list.clientWidth;
    if (kind !== "images" || !width) return;
    const target = rowHeight(width);
    const first = split >= 0 ? split : ratios.length;
    // A few close results are not drawn larger than the distant ones below them.
    const options = { width, gap: GAP, target, alone: split < 0 };
    const near = justify(ratios.slice(0, first), {
      ...options, complete: complete || split >= 0, balance: balance.near,
    });
    places = [];
    const place = (at, box, top, far) => {
      tiles[at].place(box, top, far);
      places[at] = box ? [box.y + top, box.y + top + box.height] : [0, 0];
    };
    for (let at = 0; at < first; at += 1) place(at, near.boxes[at] ?? null, 0, !close);
    let height = near.height;
    line.hidden = split < 0;
    if (split >= 0) {
      const top = near.height + LINE;
      line.style.top = `${near.height}px`;
      const far = justify(ratios.slice(first), { ...options, complete, balance: balance.far });
      for (let at = first; at < ratios.length; at += 1) place(at, far.boxes[at - first] ?? null, top, true);
      height = top + far.height;
    }
    list.style.height = `${height}px`;
    attach();
  }

  /** Put the tiles near the window into the document, in order, and take out the others. */
  function attach() {
    if (kind !== "images") return;
    const offset = list.getBoundingClientRect().top;
    const isNear = ([top, bottom]) => bottom + offset > -MARGIN && top + offset < innerHeight + MARGIN;
    let next = null;
    for (let at = tiles.length - 1; at >= 0; at -= 1) {
      const { element } = tiles[at];
      if (tiles.length <= MANY || isNear(places[at]) || element.contains(document.activeElement)) {
        if (!element.isConnected) list.insertBefore(element, next);
        next = element;
      } else if (element.isConnected) {
        element.remove();
      }
      if (at === split && line.nextSibling !== next) list.insertBefore(line, next);
    }
    updateTabOrder();
  }

  let attaching = 0;
  window.addEventListener("scroll", () => {
    if (tiles.length <= MANY || attaching) return;
    attaching = requestAnimationFrame(() => {
      attaching = 0;
      attach();
    });
  }, { passive: true });

  function begin(target) {
    tiles = [];
    ratios = [];
    places = [];
    split = -1;
    kind = target;
    list.className = target === "images" ? "grid" : "cards";
    list.style.height = "";
    list.removeAttribute("aria-hidden");
    line.hidden = true;
    list.replaceChildren(line);
  }

  new ResizeObserver(() => {
    if (list.clientWidth !== width) arrange();
  }).observe(list);

  return {
    /** Show all results (`fresh`), or append the new ones. */
    show(results, fresh) {
      if (fresh) begin(results.query.target);
      const added = results.hits.slice(tiles.length);
      complete = results.complete;
      // Rankings by words are not sorted by relevance, so there is no line to draw.
      const ranked = results.query.mode === "dense" && !results.nothingClose;
      const far = ranked && split < 0 ? results.hits.findIndex((hit) => !isClose(hit)) : -1;
      close = !results.nothingClose && isClose(results.hits[0]);
      if (kind === "images") {
        for (const hit of added) {
          const tile = createTile(hit, handlers);
          tiles.push(tile);
          ratios.push(ratioOf(hit.metadata));
        }
      } else {
        for (const hit of added) {
          const element = createCard(hit, handlers);
          tiles.push({ element });
          list.append(element);
        }
      }
      if (far >= 0) {
        split = far;
        line.firstChild.textContent = far ? texts.results.further : texts.results.onlyFurther;
        line.hidden = false;
        if (kind === "texts") list.insertBefore(line, tiles[far].element);
      }
      if (fresh) balance = { near: complete || split >= 0, far: complete };
      if (kind === "images") arrange();
      updateTabOrder();
    },
    /** Show placeholders while results load. */
    showPlaceholders(target) {
      begin(target);
      list.setAttribute("aria-hidden", "true");
      if (target === "images") {
        showPlaceholders(list);
      } else {
        for (let number = 0; number < 6; number += 1) list.append(h("li", { class: "card placeholder" }));
      }
    },
    clear() {
      begin("images");
    },
    /** Focus a hit by its id, or the first one. @returns {boolean} whether there was one */
    focus(id) {
      const at = tiles.findIndex(({ element }) => element.dataset.id === id);
      if (at >= 0 && !tiles[at].element.isConnected) {
        scrollTo(0, scrollY + list.getBoundingClientRect().top + places[at][0] - innerHeight / 3);
        attach();
      }
      return focusLink(list, id);
    },
    isEmpty: () => !list.querySelector("a"),
  };
}
