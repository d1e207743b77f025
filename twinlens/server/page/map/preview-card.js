// A picture of the map, near: on hovering, on focus in the list, and after a tap.

import { h, icon, hidden } from "../shared/dom.js";
import { sign } from "../shared/hits.js";

const AWAY = 14;

/**
 * @param {HTMLElement} element
 * @param {{addressOf: (id: string) => string, imageOf: (id: string) => string,
 *   moreOf: (id: string) => string, onClose: () => void}} options  where links lead
 */
export function createCard(element, { addressOf, imageOf, moreOf, onClose }) {
  let shown = "";
  const fill = (id, { title, relevance }, pinned) => {
    element.replaceChildren(...[
      h("img", { src: imageOf(id), alt: title, decoding: "async" }),
      h(
        "div", { class: "map-card-text" },
        relevance !== undefined && sign(relevance),
        h("p", { class: "map-card-title" }, title),
      ),
      pinned && h(
        "div", { class: "map-card-links" },
        h("a", { class: "action first", href: addressOf(id) }, "Open"),
        h("a", { class: "action", href: moreOf(id) }, icon("alike"), "More like this"),
        h(
          "button", { class: "icon-button", type: "button", on: { click: onClose } },
          icon("close"), hidden("Close"),
        ),
      ),
    ].filter(Boolean));
  };
  return {
    get id() {
      return shown;
    },
    /**
     * Show a picture.
     * @param {string} id
     * @param {{title: string, relevance: number|undefined}} said  what is known of it
     * @param {{place: object, pinned: boolean}} how  place: where it is on the map;
     *   pinned: with links, at the bottom, until it is closed
     */
    show(id, said, { place, pinned }) {
      shown = id;
      element.hidden = false;
      element.classList.toggle("pinned", pinned);
      fill(id, said, pinned);
      if (pinned) {
        element.style.transform = "";
        return;
      }
      const stage = element.parentElement;
      const half = place.size / 2 + AWAY;
      const { offsetWidth: width, offsetHeight: height } = element;
      const right = place.left + half;
      const left = right + width > stage.clientWidth - 8 ? place.left - half - width : right;
      const top = Math.max(8, Math.min(stage.clientHeight - height - 8, place.top - height / 2));
      element.style.transform = `translate(${Math.round(Math.max(8, left))}px, ${Math.round(top)}px)`;
    },
    hide() {
      shown = "";
      element.hidden = true;
    },
  };
}
