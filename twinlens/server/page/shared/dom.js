// Create elements and show messages. Text is only set as text, so no caption can become markup.

import { texts } from "../texts/en/shared.js";

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/**
 * Create an element.
 * @param {string} tag
 * @param {object} options  attributes by name; `on` has listeners by event; `data` sets the dataset;
 *   `value` and `checked` are set as properties; null, undefined and false omit an attribute
 * @param {...(Node|string|null|undefined|false)} children
 */
export function h(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "data") {
      Object.assign(element.dataset, value);
    } else if (name === "value" || name === "checked") {
      element[name] = value;
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The icons, once they are part of the page: then they can be shown while the server is away. */
let icons = "/static/shared/icons.svg#";
fetch("/static/shared/icons.svg").then((response) => response.text()).then((text) => {
  const sprite = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  for (const symbol of sprite.querySelectorAll("symbol")) symbol.id = `icon-${symbol.id}`;
  sprite.setAttribute("hidden", "");
  document.body.append(sprite);
  icons = "#icon-";
}).catch(() => {});

/** An icon of icons.svg, in the colour of the text. */
export function icon(name) {
  const element = document.createElementNS(SVG, "svg");
  element.setAttribute("class", "icon");
  element.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `${icons}${name}`);
  element.append(use);
  return element;
}

/** Whether the device is touched: nothing can be dropped on it, and there is no pointer that hovers. */
export const isTouch = matchMedia("(hover: none)").matches;

/** Text for screen readers only. */
export const hidden = (text) => h("span", { class: "hidden" }, text);

/** An image that fades in when it has loaded. */
export function fadingImage(src, options = {}) {
  const image = h("img", { class: "loading", decoding: "async", ...options, src });
  image.addEventListener("load", () => {
    image.className = "loaded";
  }, { once: true });
  return image;
}

/** Whether key presses on this element type text. */
export function isTyping(target) {
  return target instanceof HTMLElement
    && (target.isContentEditable || target.matches("textarea, select, input:not([type=file]):not([type=radio])"));
}

let fading = 0;

/** Show a message at the bottom of the window for five seconds. */
export function toast(text) {
  const place = $("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => place.classList.remove("shown"), 5000);
}

/** The deletion that can still be undone: finish it now. */
let finishPending = () => {};

/** Milliseconds in which something can be undone. */
const UNDO_TIME = 8000;

/**
 * Say that something was done, and offer to undo it for `UNDO_TIME`.
 * @param {string} text
 * @param {() => void} undo
 * @param {() => void} finish  called once if it was not undone, at the latest when the page is closed
 */
export function offerUndo(text, undo, finish) {
  finishPending();
  const place = h("div", { class: "toast undo shown", role: "status" }, h("span", {}, text));
  let timer = 0;
  const close = (then) => () => {
    clearTimeout(timer);
    place.remove();
    finishPending = () => {};
    then();
  };
  finishPending = close(finish);
  timer = setTimeout(finishPending, UNDO_TIME);
  place.append(h("button", { class: "undo-button", type: "button", on: { click: close(undo) } }, texts.undo));
  document.body.append(place);
}

window.addEventListener("pagehide", () => finishPending());

/** Copy text to the clipboard. @returns {Promise<boolean>} whether that worked */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages have a clipboard only over HTTPS or on localhost.
    return false;
  }
}
