// Explain a hit: how well the picture and each of its captions fit the words, and which words they share.

import { isAbort } from "../shared/api.js";
import { plain, quoted } from "../shared/bidi.js";
import { h } from "../shared/dom.js";
import { matchBadge, nameOf } from "../shared/hits.js";
import { texts } from "../texts/en/search.js";
import { captionsFor, pictureFor } from "./comparison.js";

const WORD = /[\p{L}\p{N}]+/gu;
/** Words of one or two Latin letters ("a", "of", "in") say nothing about a picture. */
const isTelling = (word) => !/^\p{Script=Latin}{1,2}$/u.test(word);

/** A text in which the words of the query are marked. */
function marked(text, words) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(WORD)) {
    if (!words.has(found[0].toLowerCase())) continue;
    parts.push(text.slice(end, found.index), h("mark", {}, found[0]));
    end = found.index + found[0].length;
  }
  return [...parts, text.slice(end)];
}

/**
 * The fold "Why this?" of the viewer. What it says is fetched when it is opened.
 * @param {{collection: () => string}} handlers
 * @returns {{element: HTMLElement, show: (hit: object, query: object) => void}}
 */
export function createExplanation({ collection }) {
  const body = h("div", { class: "why-body", "aria-live": "polite" });
  const element = h("details", { class: "why", hidden: true }, h("summary", {}, texts.why.title), body);
  let shown = null; // the hit and the query
  let pending = new AbortController();

  async function explain() {
    pending.abort();
    pending = new AbortController();
    const { signal } = pending;
    const { hit, query } = shown;
    const words = new Set((query.text.match(WORD) ?? []).filter(isTelling).map((word) => word.toLowerCase()));
    body.replaceChildren(h("p", { class: "help" }, texts.why.comparing));
    try {
      const [picture, captions] = await Promise.all([pictureFor, captionsFor].map(
        (compare) => compare(hit.image_id, query.text, collection(), signal)));
      body.replaceChildren(
        h("p", {}, texts.why.fit(quoted(query.text))),
        h(
          "ul", { class: "why-parts" },
          h("li", {}, texts.why.picture, matchBadge(picture)),
          ...captions.map((one) => h("li", {}, h("q", {}, h("bdi", {}, ...marked(plain(one.text), words))), matchBadge(one))),
        ),
        h("p", { class: "path" }, texts.why.file, h("bdi", {}, ...marked(nameOf(hit.path), words))),
      );
    } catch (error) {
      if (!isAbort(error)) body.replaceChildren(h("p", { class: "error" }, error.message));
    }
  }

  element.addEventListener("toggle", () => {
    if (element.open && shown) explain();
  });

  return {
    element,
    /** Explain this hit from now on; only a picture that words found has an explanation. */
    show(hit, query) {
      pending.abort();
      element.open = false;
      body.replaceChildren();
      shown = hit.image_id && query.text ? { hit, query } : null;
      element.hidden = !shown;
    },
  };
}
