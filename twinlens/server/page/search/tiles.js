// Create the tile of a picture hit, the card of a caption hit, and placeholder tiles.

import { thumbnail } from "../shared/api.js";
import { isolated, quoted } from "../shared/bidi.js";
import { fadingImage, h, hidden, icon } from "../shared/dom.js";
import { hasCaption, isRanked, labelOf, marked, matchBadge, nameOf, perhaps, titleOf } from "../shared/hits.js";
import { proposeInView } from "../shared/proposals.js";
import { texts } from "../texts/en/search.js";
import { texts as shared } from "../texts/en/shared.js";
import { GAP, justify, rowHeight } from "./justified-layout.js";
import { DRAGGED_ID } from "./search-box.js";

/** Common aspect ratios of photographs, for placeholders. */
const RATIOS = [1.5, 0.75, 1.33, 1.5, 1.33, 0.67, 1.78, 1.5, 1, 1.33, 1.5, 0.75, 1.5, 1.33, 1.78, 0.8, 1.5, 1.33];

/**
 * @typedef {object} Handlers
 * @property {() => string} collection  the name of the collection that is searched
 * @property {(hit: object) => string} addressOf  the address that opens the hit
 * @property {(hit: object) => void} onOpen
 * @property {(hit: object) => void} onMore
 * @property {(hit: object) => void} onNot
 * @property {() => ReturnType<import("./selection.js").createSelection>} selection
 */

/**
 * The tile of a picture.
 * @param {Handlers} handlers
 * @returns {{element: HTMLElement, place: (box: object|null, top: number, far: boolean) => void}}
 *   place: moves it to a box, `top` pixels down; null hides it
 */
export function createTile(hit, handlers) {
  const title = titleOf(hit);
  const link = hitLink(hit, handlers, { class: "tile-link", "aria-label": labelOf(hit) });
  const more = h(
    "button",
    {
      class: "tile-button", type: "button", tabindex: -1, title: shared.moreLikeThis,
      on: { click: () => handlers.onMore(hit) },
    },
    icon("alike"), hidden(texts.tile.more(quoted(title))),
  );
  const select = h(
    "button",
    {
      class: "tile-select", type: "button", role: "checkbox", tabindex: -1, title: texts.tile.selectKey,
      on: { click: (event) => handlers.selection().toggle(hit, event.shiftKey) },
    },
    icon("check"), hidden(texts.tile.select(quoted(title))),
  );
  const element = h("li", { class: "tile", data: { id: hit.id } }, link, select, more);
  showSelected(element, handlers.selection());
  link.append(
    h(
      "span", { class: "tile-foot", "aria-hidden": "true" },
      isRanked(hit) && matchBadge(hit, { spoken: false }), isolated(title, { class: "tile-title" }),
    ),
  );
  if (!hasCaption(hit)) {
    proposeInView(element, hit.id, handlers.collection(), ({ text }) => {
      link.setAttribute("aria-label", `${perhaps(text)}, ${labelOf(hit)}`);
      link.querySelector("img")?.setAttribute("alt", perhaps(text));
    });
  }
  if (hit.duplicates) link.append(h("span", { class: "tile-count" }, `+${hit.duplicates}`));
  const place = (box, top, far) => {
    element.hidden = !box;
    element.classList.toggle("far", Boolean(far));
    if (!box) return;
    setBox(element, box, top);
    if (!link.querySelector("img, .tile-none")) {
      link.prepend(hitImage(hit, Math.max(box.width, box.height), title));
    }
  };
  return { element, place };
}

/** Show on a tile whether its picture is selected, or being deleted. */
export function showSelected(element, selection) {
  const is = selection.has(element.dataset.id);
  element.classList.toggle("selected", is);
  element.classList.toggle("removed", selection.isRemoved(element.dataset.id));
  element.querySelector(".tile-select")?.setAttribute("aria-checked", String(is));
}

/**
 * The card of a caption.
 * @param {Handlers} handlers
 */
export function createCard(hit, handlers) {
  const words = hit.text ? marked(hit, hit.text) : titleOf(hit);
  const link = hitLink(
    hit, handlers, { class: "card-link" },
    hit.thumbnail && h("span", { class: "card-picture" }, hitImage(hit, 112, "")),
    h(
      "span", { class: "card-text" },
      isolated(words, { class: "card-words clamp" }),
      h("span", { class: "card-foot" }, matchBadge(hit), isolated(nameOf(hit.path), { class: "card-path" })),
    ),
  );
  return h("li", { class: "card" }, link);
}

/** Fill a grid with placeholder tiles. */
export function showPlaceholders(list) {
  const { boxes, height } = justify(RATIOS, {
    width: list.clientWidth, target: rowHeight(list.clientWidth), gap: GAP, complete: false,
  });
  list.replaceChildren(...boxes.map((box) => {
    const placeholder = h("li", { class: "tile placeholder" });
    setBox(placeholder, box, 0);
    return placeholder;
  }));
  list.style.height = `${height}px`;
}

/** Move an element to its box, `top` pixels down. */
export function setBox(element, box, top) {
  Object.assign(element.style, {
    left: `${box.x}px`, top: `${box.y + top}px`, width: `${box.width}px`, height: `${box.height}px`,
  });
}

/** A link that opens a hit. It can be dragged into the search box. */
function hitLink(hit, handlers, options, ...children) {
  return h(
    "a",
    {
      ...options,
      href: handlers.addressOf(hit), tabindex: -1, data: { id: hit.id },
      on: {
        click: (event) => {
          const selection = handlers.selection();
          // Keys can open pictures while others are selected: they select by another key.
          const byKey = event.detail === 0;
          const selects = hit.target !== "texts" && (event.shiftKey || (selection.isActive() && !byKey));
          // Let the browser open new tabs and windows.
          if (event.ctrlKey || event.metaKey || event.button || (event.shiftKey && !selects)) return;
          event.preventDefault();
          if (selects) {
            selection.toggle(hit, event.shiftKey);
            return;
          }
          handlers.onOpen(hit);
        },
        keydown: (event) => {
          if (event.ctrlKey || event.metaKey || event.altKey) return;
          if (event.key === "m" && hit.image_id) handlers.onMore(hit);
          else if (event.key === "n") handlers.onNot(hit);
          else if (event.key === "x" && hit.target !== "texts") handlers.selection().toggle(hit, event.shiftKey);
        },
        dragstart: (event) => {
          if (hit.image_id) event.dataTransfer.setData(DRAGGED_ID, hit.image_id);
          event.dataTransfer.effectAllowed = "copyLink";
        },
      },
    },
    ...children,
  );
}

/** A hit's thumbnail, or its file name if there is none. */
function hitImage(hit, side, alt) {
  const none = () => h("span", { class: "tile-none" }, icon("picture"), isolated(nameOf(hit.path) || texts.tile.noPicture));
  const source = thumbnail(hit.thumbnail, side);
  if (!source) return none();
  const image = fadingImage(source, { alt, loading: "lazy" });
  image.addEventListener("error", () => image.replaceWith(none()), { once: true });
  return image;
}
