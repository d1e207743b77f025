// Sum up the results of a query: for the toolbar, and for people who do not see them.

import { summary } from "../shared/hits.js";
import { number } from "../shared/language.js";
import { describe, isStart } from "../shared/query.js";
import { texts } from "../texts/en/search.js";
import { texts as shared } from "../texts/en/shared.js";
import { Listing } from "./listing.js";

const duration = (took) => (took < 1000
  ? texts.results.milliseconds(number(took, took < 10 ? 1 : 0)) : texts.results.seconds(number(took / 1000, 1)));

/**
 * @param {import("../shared/query.js").Query} query
 * @param {import("./results.js").Results|Listing} results
 * @returns {{shown: string, spoken: string, bars: boolean}}  shown: in the toolbar; bars: some hits
 *   have bars, which the toolbar explains
 */
export function summaryOf(query, results) {
  const { hits, nothingClose, took } = results;
  if (results instanceof Listing) {
    const found = shared.pictures(hits.length);
    return {
      shown: isStart(query) ? "" : found, bars: false,
      spoken: query.where ? texts.results.matchFilter(hits.length) : found,
    };
  }
  const words = !hits.length ? texts.results.none : nothingClose ? texts.results.noneClose : summary(hits);
  return {
    shown: hits.length && took ? `${words} · ${duration(took)}` : words,
    bars: hits.some((hit) => !hit.by_words),
    spoken: texts.results.saidFor(words, describe(query)),
  };
}
