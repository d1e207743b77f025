// Explain a hit: how well the picture and each of its captions fit the words, and which words they share.

import { isAbort, matchText, search } from "../shared/api.js";
import { plain, quoted } from "../shared/bidi.js";
import { h } from "../shared/dom.js";
import { literal } from "../shared/filters.js";
import { matchBadge, nameOf, probabilityText } from "../shared/hits.js";
import { texts } from "../texts/en/search.js";

/** Captions that are compared with the query. */
const MAX_CAPTIONS = 8;
const WORD = /[\p{L}\p{N}]+/gu;

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
    const words = new Set((query.text.match(WORD) ?? []).map((word) => word.toLowerCase()));
    body.replaceChildren(h("p", { class: "help" }, texts.why.comparing));
    try {
      const where = `image_id == ${literal(hit.image_id)}`;
      const asked = { query: [query.text], target: "texts", where, limit: MAX_CAPTIONS, collection: collection() };
      const [fit, captions] = await Promise.all([
        matchText(hit.image_id, query.text, collection(), signal), search(asked, [], signal),
      ]);
      body.replaceChildren(...[
        h("p", {}, texts.why.fit(quoted(query.text), probabilityText(fit.match))),
        captions.hits.length > 0 && h("p", {}, texts.why.captions),
        captions.hits.length > 0 && h(
          "ul", { class: "why-captions" },
          ...captions.hits.map((one) => h("li", {}, h("bdi", {}, ...marked(plain(one.text), words)), matchBadge(one))),
        ),
        h("p", { class: "path" }, texts.why.file, h("bdi", {}, ...marked(nameOf(hit.path), words))),
      ].filter(Boolean));
    } catch (error) {
      if (!isAbort(error)) body.replaceChildren(h("p", { class: "error" }, error.detail || error.message));
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
