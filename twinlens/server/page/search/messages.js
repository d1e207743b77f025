// Create the messages shown above, below or instead of results: errors, no results, no close match.

import { isRunning, languageOf } from "../shared/api.js";
import { isolated } from "../shared/bidi.js";
import { h, icon } from "../shared/dom.js";
import { describe } from "../shared/query.js";
import { texts } from "../texts/en/search.js";

const said = texts.messages;

/** Milliseconds between two looks whether the server is back. */
const LOOK_AGAIN = 3000;

const button = (words, run) => h("button", { class: "plain", type: "button", on: { click: run } }, words);

/**
 * An error, with a button to try again. If the server was busy or away, this retries by itself.
 * @param {object} error
 * @param {() => Promise<void>|void} onRetry
 * @param {{words: string, run: () => void}[]} ways  buttons to show instead, if trying again cannot help
 */
export function failure(error, onRetry, ways = []) {
  const again = button(said.again, retry);
  const offered = ways.length ? ways.map(({ words, run }) => button(words, run)) : [again];
  const element = h(
    "div", { class: "message", role: "alert" },
    icon("warning"), h("h2", {}, error.title ?? said.wrong),
    h("p", {}, isolated(error.detail ?? error.message ?? error, { lang: languageOf(error) })),
    h("div", { class: "ways" }, ...offered),
  );

  /** Try again; if that fails, another message takes the place of this one. */
  async function retry() {
    again.disabled = true;
    again.textContent = said.trying;
    await onRetry();
    again.disabled = false;
    again.textContent = said.again;
  }

  if (error.slug === "offline") {
    const look = async () => {
      if (!element.isConnected) return;
      if (await isRunning()) retry();
      else setTimeout(look, LOOK_AGAIN);
    };
    setTimeout(look, LOOK_AGAIN);
  } else if (error.retry) {
    let left = error.retry;
    const tick = () => {
      if (!element.isConnected) return;
      if (left <= 0) {
        retry();
        return;
      }
      again.textContent = said.tryingIn(left);
      left -= 1;
      setTimeout(tick, 1000);
    };
    setTimeout(tick);
  }
  return element;
}

/**
 * No result is a close match.
 * @param {(() => void)|null} onWords  searches names of files and words of captions, if that is possible
 */
export function nothingClose(query, onWords) {
  return h(
    "div", { class: "message wide" },
    h("h2", {}, said.nothingClose(describe(query))),
    h("p", {}, said.nearest[query.target]),
    onWords && h("div", { class: "ways" }, button(said.byWords, onWords)),
  );
}

/** There are no results, because of the filter or because the collection has none of the kind. */
export function noHits(query, handlers) {
  const { target, where } = query;
  return h(
    "div", { class: "message" },
    h("h2", {}, where ? said.noneMatches[target] : said.noneStored[target]),
    h("p", {}, where ? isolated(where) : said.otherKind),
    where ? button(said.removeFilter, handlers.onNoFilter) : button(said.find[target], handlers.onOther),
  );
}

/** What the query names is not there, with a way to go on without it. */
export const notThere = (title, detail, way) =>
  h("div", { class: "message" }, h("h2", {}, title), h("p", {}, detail), button(way.words, way.run));

/** The query has a filter or exclusions, but nothing to look for. */
export function sayMore(query) {
  const only = query.nots.length > 0 || query.unlikes.length > 0;
  return h(
    "div", { class: "message" },
    h("h2", {}, only ? said.onlyExcludes : said.onlyFilter),
    h("p", {}, only ? said.onlyExcludesDetail : said.onlyFilterDetail),
  );
}

/** The line below the last result. */
export const ending = (number, query) => h("p", { class: "ending" }, texts.results.end[query.target](number));
