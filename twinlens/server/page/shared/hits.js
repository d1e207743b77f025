// Relevance as people read it: a word, and three bars as on a telephone.

import { h, hidden } from "./dom.js";

/** From here on a hit is right more often than not. */
const LIKELY = 0.5;
const STRONG = 0.75;
/** Below this hits are mostly chance. */
export const CLOSE = 0.25;

/** "strong", "likely" or "weak". */
export function level(relevance) {
  if (relevance >= STRONG) return "strong";
  return relevance >= LIKELY ? "likely" : "weak";
}

export const percent = (relevance) => (relevance < 0.01 ? "under 1%" : `${Math.round(relevance * 100)}%`);

/** "strong match, 94%". */
export const inWords = (relevance) => `${level(relevance)} match, ${percent(relevance)}`;

/** The sign; `spoken` where nothing beside it says the same. */
export function sign(relevance, { spoken = true } = {}) {
  const word = level(relevance);
  const title = `${word[0].toUpperCase()}${word.slice(1)} match: ${percent(relevance)} relevant`;
  return h(
    "span",
    { class: "sign", data: { level: word }, title },
    h("span", { class: "bars", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
    h("span", { class: "sign-text", "aria-hidden": "true" }, `${word} · ${percent(relevance)}`),
    spoken && hidden(inWords(relevance)),
  );
}

/** What a page of results holds: "2 strong and 5 likely matches". */
export function summary(hits) {
  const strong = hits.filter((hit) => hit.relevance >= STRONG).length;
  const likely = hits.filter((hit) => hit.relevance >= LIKELY).length - strong;
  const matches = (number) => (number === 1 ? "match" : "matches");
  if (strong && likely) return `${strong} strong and ${likely} likely ${matches(likely)}`;
  if (strong) return `${strong} strong ${matches(strong)}`;
  if (likely) return `${likely} likely ${matches(likely)}`;
  // Below the line, where there is none above it.
  return hits.some((hit) => hit.relevance >= CLOSE) ? "Weak matches only" : "Only some further away";
}
