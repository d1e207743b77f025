// Making elements. Text is only ever set as text, so that no caption can become markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element.
 * @param {string} tag
 * @param {object} options  attributes by name; `on` has listeners by event, `data` the dataset,
 *   `value` and `checked` are set as properties; null, undefined and false leave an attribute out.
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

/** One of the drawings in icons.svg, in the colour of the text. */
export function icon(name) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "icon");
  drawing.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/static/shared/icons.svg#${name}`);
  drawing.append(use);
  return drawing;
}

/** Text for screen readers alone. */
export const hidden = (text) => h("span", { class: "hidden" }, text);

/** A count with its noun: "1 picture", "1,204 pictures". */
export const count = (number, noun) =>
  `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** Whether the keys that somebody presses are text. */
export function isTyping(target) {
  return target instanceof HTMLElement
    && (target.isContentEditable || target.matches("textarea, select, input:not([type=file]):not([type=radio])"));
}

let fading = 0;

/** Say something at the bottom of the window for some seconds. */
export function toast(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => place.classList.remove("shown"), 5000);
}

/** Put text on the clipboard; where the browser lets pages do so in the background, without a trace. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Only pages over HTTPS, or on this machine, have a clipboard.
    return false;
  }
}
