// Create the messages shown above, below or instead of results: errors, no results, no close match.

import { isRunning } from "../shared/api.js";
import { isolated } from "../shared/bidi.js";
import { count, h, icon } from "../shared/dom.js";
import { describe } from "../shared/query.js";

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
  const again = button("Try again", retry);
  const offered = ways.length ? ways.map(({ words, run }) => button(words, run)) : [again];
  const element = h(
    "div", { class: "message", role: "alert" },
    icon("warning"), h("h2", {}, error.title ?? "Something went wrong on this page"),
    h("p", {}, isolated(error.detail ?? error.message ?? error)),
    h("div", { class: "ways" }, ...offered),
  );

  /** Try again; if that fails, another message takes the place of this one. */
  async function retry() {
    again.disabled = true;
    again.textContent = "Trying …";
    await onRetry();
    again.disabled = false;
    again.textContent = "Try again";
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
      again.textContent = `Trying again in ${left} s`;
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
  const images = query.target === "images";
  return h(
    "div", { class: "message wide" },
    h("h2", {}, `Nothing here comes close to ${describe(query)}.`),
    h("p", {}, `These are the nearest ${images ? "pictures" : "captions"}, but they are no nearer than chance would give. `
      + "Try other words, or search with a picture."),
    onWords && h("div", { class: "ways" }, button("Search file names and captions", onWords)),
  );
}

/** There are no results, because of the filter or because the collection has none of the kind. */
export function noHits(query, handlers) {
  const images = query.target === "images";
  return h(
    "div", { class: "message" },
    h("h2", {}, query.where ? `No ${images ? "picture" : "caption"} matches the filter.` : `There are no ${images ? "pictures" : "captions"} to find.`),
    h("p", {}, query.where ? isolated(query.where) : "Search for the other kind instead."),
    query.where
      ? button("Remove the filter", handlers.onNoFilter)
      : button(images ? "Find captions" : "Find pictures", handlers.onOther),
  );
}

/** The query has a filter or exclusions, but nothing to look for. */
export function sayMore(query) {
  const only = query.nots.length > 0 || query.unlikes.length > 0;
  return h(
    "div", { class: "message" },
    h("h2", {}, only ? "What should be in the picture?" : "What are you looking for?"),
    h("p", {}, only
      ? "So far the search only excludes things. Add words or a picture to look for."
      : "The filter is ready. Add words or a picture to look for."),
  );
}

/** The line below the last result. */
export function ending(number, query) {
  const noun = query.target === "images" ? "picture" : "caption";
  return h("p", { class: "ending" }, `End of results: ${count(number, noun)}.`);
}
