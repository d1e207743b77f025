// Show names, captions and filters in their own direction, so that none changes the text around it.

import { h } from "./dom.js";

/** Characters that only change the order of others: a text that is isolated needs none of them. */
const CONTROLS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;
/** Letters that are written from right to left. */
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
const ISOLATE = "\u2068";
const END = "\u2069";

/** A text without characters that reorder it: "photo\u202egpj.exe" shows that it is no picture. */
export const plain = (text) => String(text ?? "").replace(CONTROLS, "");

/** An element with a text in its own direction. */
export const isolated = (text, options = {}) => h("bdi", options, plain(text));

/** A text for a sentence that has no elements: a title, a label, a message. */
export function quoted(text) {
  const shown = plain(text);
  return RIGHT_TO_LEFT.test(shown) ? `${ISOLATE}${shown}${END}` : shown;
}

/** A path, each part in its own direction, with possible line breaks between them. */
export const isolatedPath = (path) =>
  h("bdi", { dir: "ltr" }, ...String(path ?? "").split(/(?<=[\\/])/).flatMap((part) => [isolated(part), h("wbr")]));
