// Describe a hit: its title, and its relevance as a word and three bars.

import { texts } from "../texts/en/shared.js";
import { plain, quoted } from "./bidi.js";
import { h, hidden } from "./dom.js";
import { percent } from "./language.js";

/** From here on a hit is right more often than not. */
const LIKELY = 0.5;
const STRONG = 0.75;
/** Below this, most hits are chance. */
const CLOSE = 0.25;

/** The last part of a path. */
export const nameOf = (path) => plain(path).split(/[\\/]/).filter(Boolean).pop() ?? "";

/** A field's name as a label: "camera_model" becomes "Camera model". */
export function readable(name) {
  if (Object.hasOwn(texts.fields, name)) return texts.fields[name];
  const words = name.replaceAll("_", " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Mark a text as a guess about what a picture shows. */
export const perhaps = (text) => texts.perhaps(quoted(texts.everyday(text)));

/** A caption or text of a hit; marked if twinlens proposed it and nobody wrote it. */
export const marked = (hit, text) => (hit.metadata?.caption_source === "proposed" ? perhaps(text) : plain(text));

/** Whether a picture has a caption. */
export const hasCaption = (hit) => Boolean(hit.captions?.[0]);

/** A picture's title: its first caption, or its file name. */
export const titleOf = (hit) => (hasCaption(hit) ? marked(hit, hit.captions[0]) : nameOf(hit.path) || texts.aPicture);

/** "strong", "likely" or "weak". */
function level(relevance) {
  if (relevance >= STRONG) return "strong";
  return relevance >= LIKELY ? "likely" : "weak";
}

/** How likely a picture with this relevance to some words shows them: "strong", "likely", "weak" or "far". */
export const answerLevel = (relevance) => (relevance < CLOSE ? "far" : level(relevance));

/** A probability as per cent, never as a certainty: "94%", "over 99%". */
export function probabilityText(probability) {
  if (probability > 0.99) return texts.match.over(percent(0.99));
  return probability < 0.01 ? texts.match.under(percent(0.01)) : percent(probability);
}

/** Whether a hit is more than chance: it was found by its words, or it is near enough. */
export const isClose = (hit) => Boolean(hit) && (hit.by_words || hit.relevance >= CLOSE);

/** Whether a hit was found by a search; pictures that are only listed have no relevance. */
export const isRanked = (hit) => hit.by_words || hit.relevance !== undefined;

/** The per cent after a word; none for captions: nearly all that words find are near certain. */
const percentAfter = (hit, between) =>
  (hit.target === "texts" ? "" : `${between}${probabilityText(hit.relevance)}`);

/** "strong match, 94%", or "found by words". */
export const matchText = (hit) =>
  (hit.by_words ? texts.match.byWords : `${texts.match[level(hit.relevance)].match}${percentAfter(hit, ", ")}`);

/** A picture's title, and how good a match it is if it was searched for. */
export const labelOf = (hit) => (isRanked(hit) ? `${quoted(titleOf(hit))}, ${matchText(hit)}` : titleOf(hit));

const bars = () => h("span", { class: "bars", "aria-hidden": "true" }, h("i"), h("i"), h("i"));

/** The bars of a level, without words: "strong", "likely" or "weak". */
export const matchBars = (name) => h("span", { class: "relevance", data: { level: name } }, bars());

/**
 * Three bars and a word; for a hit that was found by its words, only that.
 * `spoken`: also for screen readers, unless text beside it says the same.
 */
export function matchBadge(hit, { spoken = true } = {}) {
  if (hit.by_words) {
    return h("span", { class: "relevance", data: { level: "words" }, title: texts.match.byWordsTitle },
      h("span", { class: "relevance-text", "aria-hidden": String(!spoken) }, matchText(hit)));
  }
  const name = level(hit.relevance);
  const { word, title } = texts.match[name];
  return h(
    "span",
    { class: "relevance", data: { level: name }, title: `${title}${percentAfter(hit, ": ")}` },
    bars(),
    h("span", { class: "relevance-text", "aria-hidden": "true" }, `${word}${percentAfter(hit, " · ")}`),
    spoken && hidden(matchText(hit)),
  );
}

/** Summarise a page of results: "2 strong and 5 likely matches". */
export function summary(hits) {
  const judged = hits.filter((hit) => !hit.by_words);
  const words = hits.length - judged.length;
  const strong = judged.filter((hit) => hit.relevance >= STRONG).length;
  const likely = judged.filter((hit) => hit.relevance >= LIKELY).length - strong;
  const said = texts.summary;
  if (words) return strong + likely ? said.byBoth(words, strong + likely) : said.byWords(words);
  if (strong && likely) return said.strongAndLikely(strong, likely);
  if (strong) return said.strong(strong);
  if (likely) return said.likely(likely);
  return hits.some(isClose) ? said.weak : said.far;
}
