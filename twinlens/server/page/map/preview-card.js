// Show a card with a larger picture of the map: on hover, on focus in the list, and after a tap.

import { isolated, plain } from "../shared/bidi.js";
import { h, hidden, icon } from "../shared/dom.js";
import { matchBadge } from "../shared/hits.js";
import { texts } from "../texts/en/map.js";
import { texts as shared } from "../texts/en/shared.js";

/** Pixels between the card and its picture on the map. */
const DISTANCE = 14;

/**
 * @param {HTMLElement} element
 * @param {{addressOf: (id: string) => string, imageOf: (id: string) => string,
 *   moreOf: (id: string) => string, onClose: () => void}} options  the addresses of the links, the
 *   URL of the picture
 */
export function createPreviewCard(element, { addressOf, imageOf, moreOf, onClose }) {
  let shown = "";
  let placed = {};
  const fill = (id, { title, relevance }, pinned) => {
    element.replaceChildren(...[
      h("img", { src: imageOf(id), alt: plain(title), decoding: "async" }),
      h(
        "div", { class: "map-card-text" },
        relevance !== undefined && matchBadge({ relevance }),
        h("p", { class: "map-card-title clamp" }, isolated(title)),
      ),
      pinned && h(
        "div", { class: "map-card-links" },
        h("a", { class: "action first", href: addressOf(id) }, texts.open),
        h("a", { class: "action", href: moreOf(id) }, icon("alike"), shared.moreLikeThis),
        h(
          "button", { class: "icon-button", type: "button", on: { click: onClose } },
          icon("close"), hidden(shared.close),
        ),
      ),
    ].filter(Boolean));
  };
  const arrange = ({ place, pinned }) => {
    if (pinned) {
      element.style.transform = "";
      return;
    }
    const stage = element.parentElement;
    const half = place.size / 2 + DISTANCE;
    const { offsetWidth: width, offsetHeight: height } = element;
    const right = place.left + half;
    const left = right + width > stage.clientWidth - 8 ? place.left - half - width : right;
    const top = Math.max(8, Math.min(stage.clientHeight - height - 8, place.top - height / 2));
    element.style.transform = `translate(${Math.round(Math.max(8, left))}px, ${Math.round(top)}px)`;
  };
  return {
    get id() {
      return shown;
    },
    get isPinned() {
      return !element.hidden && element.classList.contains("pinned");
    },
    /**
     * Show a picture.
     * @param {string} id
     * @param {{title: string, relevance: number|undefined}} details
     * @param {{place: object, pinned: boolean}} position  place: the picture's place in the window
     *   and its size; pinned: show the card at the bottom, with links, until it is closed
     */
    show(id, details, position) {
      shown = id;
      placed = position;
      element.hidden = false;
      element.classList.toggle("pinned", position.pinned);
      fill(id, details, position.pinned);
      arrange(position);
    },
    /** Change the title of the picture; its links keep the focus. */
    rename(title) {
      element.querySelector("img").alt = plain(title);
      element.querySelector(".map-card-title").replaceChildren(isolated(title));
      arrange(placed);
    },
    hide() {
      shown = "";
      element.hidden = true;
    },
  };
}
