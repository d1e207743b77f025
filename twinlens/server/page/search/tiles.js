// Hits as people see them: a picture's tile, and a caption's card.

import { thumbnail } from "../shared/api.js";
import { DRAGGED } from "./search-box.js";
import { h, hidden, icon } from "../shared/dom.js";
import { justify, rowHeight } from "./justified-layout.js";
import { inWords, sign } from "../shared/hits.js";

/** Widths by heights as photographs have them, for what is not there yet. */
const USUAL = [1.5, 0.75, 1.33, 1.5, 1.33, 0.67, 1.78, 1.5, 1, 1.33, 1.5, 0.75, 1.5, 1.33, 1.78, 0.8, 1.5, 1.33];

/** The last part of a path. */
export const nameOf = (path) => String(path ?? "").split(/[\\/]/).filter(Boolean).pop() ?? "";

/** What a picture shows, in words: its caption, or its name. */
export const titleOf = (hit) => hit.captions?.[0] || nameOf(hit.path) || "A picture";

/**
 * @typedef {object} Handlers
 * @property {(hit: object) => string} addressOf  a link that opens the hit
 * @property {(hit: object) => void} onOpen
 * @property {(hit: object) => void} onMore
 * @property {(hit: object) => void} onNot
 */

/** @param {Handlers} handlers */
export function tile(hit, handlers) {
  const title = titleOf(hit);
  const link = opener(hit, handlers, { class: "tile-link", "aria-label": `${title}, ${inWords(hit.relevance)}` });
  const more = h(
    "button",
    {
      class: "tile-button", type: "button", tabindex: -1, title: "More like this",
      on: { click: () => handlers.onMore(hit) },
    },
    icon("alike"), hidden(`More like this: ${title}`),
  );
  const element = h("li", { class: "tile" }, link, more);
  link.append(
    h(
      "span", { class: "tile-foot", "aria-hidden": "true" },
      sign(hit.relevance, { spoken: false }), h("span", { class: "tile-title" }, title),
    ),
  );
  if (hit.duplicates) link.append(h("span", { class: "tile-count" }, `+${hit.duplicates}`));
  /** Show it in a box of so many pixels. */
  const put = (box, top, far) => {
    element.hidden = !box;
    element.classList.toggle("far", Boolean(far));
    if (!box) return;
    setOut(element, box, top);
    if (!link.querySelector("img, .tile-none")) {
      link.prepend(seen(hit, Math.max(box.width, box.height), titleOf(hit)));
    }
  };
  return { element, put };
}

/** @param {Handlers} handlers */
export function card(hit, handlers) {
  const words = hit.text || titleOf(hit);
  const link = opener(
    hit, handlers, { class: "card-link" },
    hit.thumbnail && h("span", { class: "card-picture" }, seen(hit, 112, "")),
    h(
      "span", { class: "card-text" },
      h("span", { class: "card-words" }, words),
      h("span", { class: "card-foot" }, sign(hit.relevance), h("span", { class: "card-path" }, nameOf(hit.path))),
    ),
  );
  return h("li", { class: "card" }, link);
}

/** Fill a grid with tiles for what is not there yet. */
export function ghosts(list) {
  const { boxes, height } = justify(USUAL, {
    width: list.clientWidth, target: rowHeight(list.clientWidth), gap: 6, complete: false,
  });
  list.replaceChildren(...boxes.map((box) => {
    const ghost = h("li", { class: "tile ghost" });
    setOut(ghost, box, 0);
    return ghost;
  }));
  list.style.height = `${height}px`;
}

/** Put an element in its box, so many pixels below the top. */
export function setOut(element, box, top) {
  Object.assign(element.style, {
    left: `${box.x}px`, top: `${box.y + top}px`, width: `${box.width}px`, height: `${box.height}px`,
  });
}

function opener(hit, handlers, options, ...children) {
  return h(
    "a",
    {
      ...options,
      href: handlers.addressOf(hit), tabindex: -1, data: { id: hit.id },
      on: {
        click: (event) => {
          // A new tab or window is the browser's business.
          if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
          event.preventDefault();
          handlers.onOpen(hit);
        },
        keydown: (event) => {
          if (event.ctrlKey || event.metaKey || event.altKey) return;
          if (event.key === "m" && hit.image_id) handlers.onMore(hit);
          else if (event.key === "n") handlers.onNot(hit);
        },
        dragstart: (event) => {
          if (hit.image_id) event.dataTransfer.setData(DRAGGED, hit.image_id);
          event.dataTransfer.effectAllowed = "copyLink";
        },
      },
    },
    ...children,
  );
}

/** A hit's picture, or its name where there is none to show. */
function seen(hit, side, alt) {
  const none = () => h("span", { class: "tile-none" }, icon("picture"), h("span", {}, nameOf(hit.path) || "no picture"));
  const source = thumbnail(hit.thumbnail, side);
  if (!source) return none();
  const image = h("img", { src: source, alt, loading: "lazy", decoding: "async" });
  image.addEventListener("load", () => image.classList.add("there"), { once: true });
  image.addEventListener("error", () => image.replaceWith(none()), { once: true });
  return image;
}
