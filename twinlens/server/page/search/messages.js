// What is said where results would be: errors, nothing close, nothing at all.

import { h, icon } from "../shared/dom.js";
import { describe } from "../shared/query.js";

const button = (words, run) => h("button", { class: "plain", type: "button", on: { click: run } }, words);

/**
 * An error, with a button to try again, or with what helps where that cannot; a busy server is
 * asked again by itself.
 * @param {object} error
 * @param {() => void} onRetry
 * @param {{words: string, run: () => void}[]} ways  out of it, in place of another try
 */
export function failure(error, onRetry, ways = []) {
  const again = button("Try again", onRetry);
  const offered = ways.length ? ways.map(({ words, run }) => button(words, run)) : [again];
  const element = h(
    "div", { class: "message", role: "alert" },
    icon("warning"), h("h2", {}, error.title ?? "Something went wrong on this page"),
    h("p", {}, error.detail ?? String(error.message ?? error)),
    h("div", { class: "ways" }, ...offered),
  );
  if (error.retry) {
    let left = error.retry;
    const tick = () => {
      if (!element.isConnected) return;
      if (left <= 0) {
        onRetry();
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

/** Nothing is near to what was asked. */
export function nothingClose(query) {
  const images = query.target === "images";
  return h(
    "div", { class: "message wide" },
    h("h2", {}, `Nothing here comes close to ${describe(query)}.`),
    h("p", {}, `These are the nearest ${images ? "pictures" : "captions"} there are, but they are as near as chance would have it. `
      + "Other words, or a picture of what you mean, may do better."),
  );
}

/** The filter, or something else, leaves nothing at all. */
export function noHits(query, handlers) {
  const images = query.target === "images";
  return h(
    "div", { class: "message" },
    h("h2", {}, query.where ? `No ${images ? "picture" : "caption"} satisfies the filter.` : `There are no ${images ? "pictures" : "captions"} to find.`),
    h("p", {}, query.where || "Try the other kind of results."),
    query.where
      ? button("Leave the filter out", handlers.onNoFilter)
      : button(images ? "Find captions" : "Find pictures", handlers.onOther),
  );
}

/** Something is in the box, but nothing to look for. */
export function sayMore(query) {
  const only = query.nots.length > 0 || query.unlikes.length > 0;
  return h(
    "div", { class: "message" },
    h("h2", {}, only ? "And what should be there?" : "What are you looking for?"),
    h("p", {}, only
      ? "So far the search only says what should not be in the picture. Add words, or a picture."
      : "The filter is ready. Add words, or a picture, for it to be applied to."),
  );
}

/** What stands below the last result. */
export function ending(number, query) {
  const noun = query.target === "images" ? "picture" : "caption";
  return h("p", { class: "ending" }, `That is all: ${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}.`);
}
