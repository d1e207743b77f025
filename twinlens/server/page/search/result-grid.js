// Results on the page: pictures in a justified grid, captions in a list, skeletons of either.

import { h } from "../shared/dom.js";
import { card, ghosts, tile } from "./tiles.js";
import { justify, ratioOf, rowHeight } from "./justified-layout.js";
import { CLOSE } from "../shared/hits.js";
import { roving } from "./keyboard.js";

/** Pixels between pictures, and for the line that parts near from far ones. */
const GAP = 6;
const LINE = 64;
const LABEL = "Results: arrow keys move, Enter opens";

/**
 * @param {HTMLElement} place
 * @param {import("./tiles.js").Handlers & {onLeave: () => void}} handlers
 */
export function createGrid(place, handlers) {
  const list = h("ul", { class: "grid", role: "list", "aria-label": LABEL });
  const line = h("li", { class: "line", hidden: true, role: "presentation" }, h("span", {}));
  const keys = roving(list, "a", handlers.onLeave);
  let tiles = [];
  let ratios = [];
  let split = -1;
  let close = true;
  // What is whole from the beginning can be set out well; what grows must not move.
  let balance = { near: false, far: false };
  let complete = true;
  let kind = "images";
  let width = 0;
  place.append(list);

  function arrange() {
    width = list.clientWidth;
    if (kind !== "images" || !width) return;
    const target = rowHeight(width);
    const first = split >= 0 ? split : ratios.length;
    // Beside others, a few close ones are not drawn larger than those.
    const options = { width, gap: GAP, target, alone: split < 0 };
    const near = justify(ratios.slice(0, first), {
      ...options, complete: complete || split >= 0, balance: balance.near,
    });
    near.boxes.forEach((box, at) => tiles[at].put(box, 0, !close));
    for (let at = near.boxes.length; at < first; at += 1) tiles[at].put(null);
    let height = near.height;
    line.hidden = split < 0;
    if (split >= 0) {
      const top = near.height + LINE;
      line.style.top = `${near.height}px`;
      const far = justify(ratios.slice(first), { ...options, complete, balance: balance.far });
      for (let at = first; at < ratios.length; at += 1) tiles[at].put(far.boxes[at - first] ?? null, top, true);
      height = top + far.height;
    }
    list.style.height = `${height}px`;
  }

  function begin(target) {
    tiles = [];
    ratios = [];
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
    /** Show results from their beginning, or what came since. */
    show(results, fresh) {
      if (fresh) begin(results.query.target);
      const added = results.hits.slice(tiles.length);
      complete = results.complete;
      // Where words rank, too, relevance goes up and down, and there is no line to draw.
      const ranked = results.query.mode === "dense" && !results.nothingClose;
      const far = ranked && split < 0 ? results.hits.findIndex((hit) => hit.relevance < CLOSE) : -1;
      close = !results.nothingClose && results.hits[0]?.relevance >= CLOSE;
      if (kind === "images") {
        for (const hit of added) {
          const made = tile(hit, handlers);
          tiles.push(made);
          ratios.push(ratioOf(hit.metadata));
          list.append(made.element);
        }
      } else {
        for (const hit of added) {
          const element = card(hit, handlers);
          tiles.push({ element });
          list.append(element);
        }
      }
      if (far >= 0) {
        split = far;
        line.firstChild.textContent = far ? "Further away" : "Nothing close enough: these are further away, mostly by chance";
        line.hidden = false;
        list.insertBefore(line, tiles[far].element);
      }
      if (fresh) balance = { near: complete || split >= 0, far: complete };
      if (kind === "images") arrange();
      keys.reset();
    },
    /** Show that something is coming. */
    skeleton(target) {
      begin(target);
      list.setAttribute("aria-hidden", "true");
      if (target === "images") {
        ghosts(list);
      } else {
        for (let number = 0; number < 6; number += 1) list.append(h("li", { class: "card ghost" }));
      }
    },
    clear() {
      begin("images");
    },
    /** Put the keyboard on a hit, or on the first. */
    focus(id) {
      const links = [...list.querySelectorAll("a")];
      const link = links.find((one) => one.dataset.id === id) ?? (id ? null : links[0]);
      link?.focus({ preventScroll: true });
      link?.scrollIntoView({ block: "nearest" });
      return Boolean(link);
    },
    links: () => list.querySelectorAll("a").length,
  };
}
