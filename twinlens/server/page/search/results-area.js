// Show the results of a query, or what there is instead of results: an error, the start screen, nothing.

import { languageOf } from "../shared/api.js";
import { isolated, quoted } from "../shared/bidi.js";
import { $, h, icon, toast } from "../shared/dom.js";
import { withoutClause } from "../shared/filters.js";
import { goneIds, goneLabel } from "../shared/gone.js";
import { isStart, without } from "../shared/query.js";
import { texts } from "../texts/en/search.js";
import { texts as shared } from "../texts/en/shared.js";
import { picture } from "./dropped-pictures.js";
import { Listing } from "./listing.js";
import { ending, failure, noHits, notThere, nothingClose, sayMore } from "./messages.js";
import { createGrid } from "./result-grid.js";
import { showNothingStored, showStart } from "./start-screen.js";
import { summaryOf } from "./summary.js";
import { showSelected } from "./tiles.js";
import { createTimelineGrid } from "./timeline-grid.js";

/** Load the next page when the end of the results is this many pixels below the window. */
const PRELOAD_MARGIN = 1400;

/**
 * @param {HTMLElement} element
 * @param {{query: () => object, results: () => object, collection: () => object|undefined,
 *   listed: () => {collections: object[], default: string}, isPictureMissing: () => boolean,
 *   toolbar: object, saved: object, onQuery: (query: object) => void,
 *   onExample: (words: string) => void, onMore: () => Promise<void>, onAgain: () => Promise<void>,
 *   onReload: () => Promise<void>}} page  collection: as the API describes it; onMore: the next
 *   results are needed; onAgain: the first are, after a failure; onReload: the collections are
 * @param {object} handlers  of the tiles
 */
export function createResultsArea(element, page, handlers) {
  const status = $("status");
  const { toolbar } = page;
  // From top to bottom.
  const start = h("div", { class: "start" });
  const note = h("p", { class: "note", hidden: true });
  const above = h("div", { class: "above" });
  const shown = h("div", { class: "shown" });
  const below = h("div", { class: "below" });
  const end = h("div", { class: "end", "aria-hidden": "true" });
  element.append(start, note, above, shown, below, end);
  const grid = createGrid(shown, handlers);
  const timeline = createTimelineGrid(shown, {
    ...handlers, onError: (error) => toast(error.message),
  });

  const isEmpty = () => grid.isEmpty() && timeline.isEmpty();

  const watcher = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) page.onMore();
  }, { rootMargin: `0px 0px ${PRELOAD_MARGIN}px 0px` });

  /** Observe the end again: the observer reports an end that stays in view only once. */
  function watchEnd() {
    watcher.unobserve(end);
    const { loaded, complete } = page.results();
    if (loaded && !complete) watcher.observe(end);
  }

  function clearGrids() {
    grid.clear();
    timeline.clear();
  }

  /** Mark the shown results as those of the query, so that they can be used. */
  function markCurrent() {
    shown.classList.remove("waiting", "stale");
    shown.inert = false;
  }

  function showNote() {
    note.hidden = !page.isPictureMissing() && !page.query().pictures.length;
    note.replaceChildren(icon("info"), page.isPictureMissing()
      ? texts.results.pictureMissing
      : texts.results.pictureStays);
  }

  /** Say an error to people who do not see it. */
  function sayError(error) {
    status.replaceChildren(isolated(error.detail || error.title, { lang: languageOf(error) }));
  }

  /** Buttons that search in an existing collection. */
  const others = () => page.listed().collections.map(({ name }) => ({
    words: texts.messages.searchIn(name),
    run: () => page.onQuery({ ...page.query(), collection: name === page.listed().default ? "" : name }),
  }));

  /** Buttons that may help where trying again cannot. */
  function waysOut(error) {
    if (error.slug === "collection") return others();
    const ids = goneIds(page.query(), error);
    if (ids.length) {
      return [{
        words: texts.messages.removePicture(""),
        run: () => page.onQuery(ids.reduce((query, id) => without(without(query, "ids", id), "unlikes", id), page.query())),
      }];
    }
    if (error.slug !== "image") return [];
    return page.query().pictures.map((token) => ({
      words: texts.messages.removePicture(picture(token)?.name),
      run: () => page.onQuery(without(page.query(), "pictures", token)),
    }));
  }

  /** The error as people can understand it: the server knows neither a dropped picture's name nor a chip. */
  function explained(error) {
    const { pictures } = page.query();
    if (goneIds(page.query(), error).length) return { title: shared.gone.pictures, detail: shared.gone.detail.ids };
    if (error.slug !== "image" || pictures.length !== 1) return error;
    const name = picture(pictures[0])?.name;
    return name ? { ...error, title: texts.messages.unreadable(name) } : error;
  }

  /** Searches again by words, too; null if that is not possible. */
  function byWords() {
    const query = page.query();
    const can = query.text && query.mode === "dense" && page.collection()?.modes.includes("hybrid");
    return can ? () => page.onQuery({ ...query, mode: "hybrid" }) : null;
  }

  /** What is said above the first results, if anything. */
  function introduction() {
    const query = page.query();
    const { hits, nothingClose: none } = page.results();
    if (isStart(query)) return h("h2", { class: "all" }, texts.results.all);
    if (!hits.length) {
      return noHits(query, {
        onNoFilter: () => page.onQuery({ ...query, where: "" }),
        onOther: () => page.onQuery({ ...query, target: query.target === "images" ? "texts" : "images" }),
      });
    }
    return none && nothingClose(query, byWords());
  }

  /** If nothing matches because an album or a tag of the filter is gone, say so instead. */
  async function sayGoneLabel() {
    const mine = page.results();
    const { where } = page.query();
    const gone = await goneLabel(where, page.collection()?.name ?? "");
    if (!gone || mine !== page.results()) return;
    const title = shared.gone[gone.field](quoted(gone.name));
    toolbar.showFilterError("");
    above.replaceChildren(notThere(title, shared.gone.detail[gone.field], {
      words: texts.messages.removeClause,
      run: () => page.onQuery({ ...page.query(), where: withoutClause(where, gone.clause) }),
    }));
    status.textContent = title;
  }

  function showFirstFailure(error) {
    const { where } = page.query();
    const isFilterError = where && (/^the filter/i.test(error.detail ?? "") || error.slug === "filter");
    const had = !isEmpty();
    start.replaceChildren();
    below.replaceChildren();
    toolbar.summarise("");
    if (!isFilterError) {
      clearGrids();
      above.replaceChildren(failure(explained(error), page.onAgain, waysOut(error)));
      return;
    }
    toolbar.showFilterError(error.detail);
    above.replaceChildren();
    sayGoneLabel();
    // Keep the old results visible while the user corrects the filter.
    if (had) {
      shown.classList.add("stale");
      shown.inert = true;
    } else clearGrids();
  }

  return {
    isEmpty,
    /** Focus a hit, or the first one. */
    focus: (id) => timeline.focus(id) || grid.focus(id),
    /** Mark the tiles that are selected. */
    showSelection(selection) {
      for (const tile of shown.querySelectorAll(".tile[data-id]")) showSelected(tile, selection);
    },
    /** Dim the results until those of the query are here. */
    wait() {
      shown.classList.toggle("waiting", !isEmpty());
    },
    showPlaceholders() {
      timeline.clear();
      for (const part of [start, above, below]) part.replaceChildren();
      grid.showPlaceholders(page.query().target);
    },
    sayLoadingMore() {
      below.replaceChildren(h("p", { class: "ending" }, texts.results.loadingMore));
    },
    sayLoadingModel() {
      const words = texts.results.loadingModel;
      above.replaceChildren(h("p", { class: "ending" }, words));
      status.textContent = words;
    },

    /** Show the results so far. `fresh`: they belong to another query than those shown. */
    show(fresh = false) {
      markCurrent();
      const query = page.query();
      const results = page.results();
      const starting = isStart(query);
      document.body.classList.toggle("starting", starting);
      if (!starting) start.replaceChildren();
      toolbar.showFilterError("");
      showNote();
      const listing = results instanceof Listing;
      if (listing) {
        grid.clear();
        timeline.show(results);
      } else {
        timeline.clear();
        grid.show(results, fresh);
      }
      if (fresh) {
        above.replaceChildren(...[introduction()].filter(Boolean));
        const said = summaryOf(query, results);
        toolbar.summarise(said.shown, said.bars);
        status.textContent = said.spoken;
        if (query.where && !results.hits.length) sayGoneLabel();
      }
      below.replaceChildren();
      if (!listing && results.complete && results.hits.length) below.append(ending(results.hits.length, query));
      watchEnd();
    },

    /**
     * Show what there is without results: the start screen, or why nothing can be searched.
     * @param {AbortSignal} signal
     * @returns {Promise<void>|null}  settles when the start screen is there, above all pictures; null
     *   if none are to be listed
     */
    showWithoutResults(signal) {
      markCurrent();
      for (const part of [above, below, start]) part.replaceChildren();
      showNote();
      clearGrids();
      toolbar.summarise("");
      toolbar.showFilterError("");
      const query = page.query();
      const collection = page.collection();
      const unknown = Boolean(query.collection) && !collection;
      document.body.classList.toggle("starting", isStart(query) && !unknown);
      if (unknown) {
        const title = shared.gone.collection(quoted(query.collection));
        above.append(failure({ title, detail: shared.gone.detail.collection }, page.onReload, others()));
      } else if (!collection?.images && !collection?.texts) showNothingStored(start);
      else if (isStart(query)) {
        const { collections, default: usual } = page.listed();
        const there = showStart(start, collection, page.saved.element, collections.length > 1, collection.name === usual, page.onExample, signal);
        // After the examples: their pictures come first.
        there.then(() => page.saved.list(collection.name, signal));
        return there;
      } else above.append(sayMore(query));
      return null;
    },

    /** Say why the first results, or further ones, are not here. */
    showFailure(error, first) {
      markCurrent();
      if (isStart(page.query())) {
        below.replaceChildren(failure(error, page.onAgain));
        return;
      }
      document.body.classList.remove("starting");
      if (first) showFirstFailure(error);
      else below.replaceChildren(failure(error, page.onMore));
      sayError(explained(error));
    },

    /** Say why the collections are not here. */
    showNoCollections(error) {
      above.replaceChildren(failure(error, page.onReload));
      sayError(error);
    },
    clearMessages: () => above.replaceChildren(),
  };
}
