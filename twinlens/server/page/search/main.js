// Run the search page: everything shown follows from one query, which the address holds.

import { collections, isAbort, isLoading, isSignedIn, languageOf, onLocked, signOut } from "../shared/api.js";
import { isolated, quoted } from "../shared/bidi.js";
import { createSignIn, createWriteKeyDialog } from "../shared/dialogs.js";
import { $, h, icon, isTyping, toast } from "../shared/dom.js";
import { withClause } from "../shared/filters.js";
import { summary } from "../shared/hits.js";
import { number } from "../shared/language.js";
import {
  EMPTY, describe, fromAddress, isAsking, isListing, isStart, toAddress, withOne, without,
} from "../shared/query.js";
import { onWriteLocked } from "../shared/write-api.js";
import { texts } from "../texts/en/search.js";
import { texts as shared } from "../texts/en/shared.js";
import { picture } from "./dropped-pictures.js";
import { createShortcutsDialog } from "./keyboard.js";
import { Listing } from "./listing.js";
import { ending, failure, noHits, nothingClose, sayMore } from "./messages.js";
import { createOpenedHit } from "./opened-hit.js";
import { createGrid } from "./result-grid.js";
import { Results } from "./results.js";
import { createSavedSearches } from "./saved-searches.js";
import { createSearchBox } from "./search-box.js";
import { createSelection } from "./selection.js";
import { showNothingStored, showStart } from "./start-screen.js";
import { createTimelineGrid } from "./timeline-grid.js";
import { showSelected } from "./tiles.js";
import { createToolbar } from "./toolbar.js";
import { createUpload } from "./upload.js";

/** Number of earlier queries whose results are cached for going back. */
const CACHE_SIZE = 12;
/** Load the next page when the end of the results is this many pixels below the window. */
const PRELOAD_MARGIN = 1400;
/** Milliseconds before placeholders are shown while results load. */
const PLACEHOLDER_DELAY = 160;
/** Milliseconds before a search that takes long asks whether the server is loading the model. */
const LOADING_DELAY = 1500;

const status = $("status");

let query = EMPTY;
let results = null;
let collection = null; // as the API describes it
let listed = { collections: [], default: "" };
let pending = new AbortController();
let loading = false;
let typing = false;
let pictureMissing = false; // the address names a dropped picture that this tab does not have
let ready = false;
let isFirst = true; // the query is the one with which the page was opened
const cache = new Map();

// The parts of the results area, from top to bottom.
const start = h("div", { class: "start" });
const note = h("p", { class: "note", hidden: true });
const above = h("div", { class: "above" });
const shown = h("div", { class: "shown" });
const below = h("div", { class: "below" });
const end = h("div", { class: "end", "aria-hidden": "true" });
$("results").append(start, note, above, shown, below, end);

const box = createSearchBox($("search"), {
  onChange: (next, done) => go(next, { live: !done }),
  onDown: () => focusHit(),
});
const saved = createSavedSearches({
  query: () => query, collection: () => collection?.name ?? query.collection, onRun: (next) => go(next),
});
const toolbar = createToolbar($("tools"), { onChange: (changes) => go({ ...query, ...changes }), save: saved.button });
const handlers = {
  collection: () => collection?.name ?? query.collection,
  addressOf: (hit) => toAddress(query, { open: hit.id }),
  onOpen: (hit) => openedHit.open(hit.id),
  onMore: (hit) => {
    openedHit.leave();
    go({ ...query, text: "", nots: [], pictures: [], unlikes: [], ids: [hit.image_id || hit.id], target: "images" });
    toast(texts.results.more);
  },
  onNot: (hit) => {
    openedHit.leave();
    go(withOne({ ...query, ids: query.ids.filter((id) => id !== hit.id) }, "unlikes", hit.id));
    toast(texts.results.fewer);
  },
  onLeave: () => box.focus(),
  selection: () => selection,
};
const selection = createSelection({
  hits: () => results?.hits ?? [],
  collection: handlers.collection,
  onDeleted: reload,
  onChanged: reload,
  onChange: () => {
    for (const tile of shown.querySelectorAll(".tile[data-id]")) showSelected(tile, selection);
  },
});
const upload = createUpload({ collection: () => query.collection, onAdded: reload });
const grid = createGrid(shown, handlers);
const timeline = createTimelineGrid(shown, {
  ...handlers, onError: (error) => toast(error.detail || error.message),
});
const openedHit = createOpenedHit({
  query: () => query,
  results: () => results,
  collection: () => query.collection || listed.default,
  signal: () => pending.signal,
  isFirst: () => isFirst,
  onEnd: () => load(),
  onClosed: (id) => focusHit(id),
}, {
  ...handlers,
  onFilter: (filter) => {
    openedHit.leave();
    go({ ...query, where: withClause(query.where, filter) });
  },
});
const showShortcuts = createShortcutsDialog();
onLocked(createSignIn());
onWriteLocked(createWriteKeyDialog());

/** Search for another query. `live`: the user is typing, so the next query replaces this history entry. */
function go(next, { live = false } = {}) {
  const address = toAddress(next);
  const same = address === toAddress(query);
  keepScroll();
  query = next;
  if (!same) {
    isFirst = false;
    pictureMissing = false;
    if (live && typing) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
  }
  typing = live;
  if (same && results && !results.failed) box.show(query, collection?.name ?? "");
  else render();
}

/** Fetch everything again, after pictures were stored or deleted. */
async function reload() {
  cache.clear();
  toolbar.forget();
  listed = await collections().catch(() => listed);
  render();
}

/** Show the query: the box, the toolbar, and its results, from the cache or the server. */
function render() {
  selection.clear();
  collection = listed.collections.find((one) => one.name === (query.collection || listed.default));
  box.show(query, collection?.name ?? query.collection);
  if (!ready) return;  // `begin` renders again when the collections are known
  toolbar.show(query, collection, listed.collections.map((one) => one.name), listed.default);
  saved.offer(query);
  const title = isAsking(query) ? describe(query) : quoted(query.where);
  document.title = title ? `${title} · twinlens` : "twinlens";
  const within = new URLSearchParams(query.collection ? { collection: query.collection } : {});
  // Dropped pictures stay in this tab.
  $("map").href = `/map${toAddress({ ...query, pictures: [] }).slice(1)}`;
  $("review").href = `/review${within.size ? `?${within}` : ""}`;
  $("review").hidden = !collection?.fields?.images?.flagged;
  pending.abort();
  pending = new AbortController();
  const key = toAddress(query);
  results = cache.get(key) ?? (isListing(query) ? new Listing(query) : new Results(query));
  loading = false;
  if (isStart(query) || !(isAsking(query) || isListing(query)) || !canBeAsked()) {
    showWithoutQuery();
    return;
  }
  if (results.loaded) {
    show(true);
    scrollTo(0, results.scroll);
    return;
  }
  scrollTo(0, 0);
  const had = !isEmpty();
  shown.classList.toggle("waiting", had);
  const mine = results;
  if (!had) setTimeout(() => mine === results && !results.loaded && !results.failed && showPlaceholders(), PLACEHOLDER_DELAY);
  setTimeout(() => sayLoading(mine), LOADING_DELAY);
  load(true);
}

/** Say that the server is loading the model, if a search waits for that. */
async function sayLoading(mine) {
  const waits = () => mine === results && !mine.loaded && !mine.failed;
  if (!waits()) return;
  const found = await isLoading(pending.signal).catch(() => false);
  if (!found || !waits()) return;
  const words = texts.results.loadingModel;
  above.replaceChildren(h("p", { class: "ending" }, words));
  status.textContent = words;
}

/** Whether the query's collection exists, and has something to list; a search says itself what is wrong. */
const canBeAsked = () => isAsking(query) || Boolean(collection?.images || collection?.texts);

const isEmpty = () => grid.isEmpty() && timeline.isEmpty();

const focusHit = (id) => timeline.focus(id) || grid.focus(id);

function clearGrids() {
  grid.clear();
  timeline.clear();
}

function showPlaceholders() {
  timeline.clear();
  start.replaceChildren();
  above.replaceChildren();
  below.replaceChildren();
  grid.showPlaceholders(query.target);
}

async function showWithoutQuery() {
  markCurrent();
  for (const part of [above, below, start]) part.replaceChildren();
  showNote();
  clearGrids();
  toolbar.summarise("");
  toolbar.showFilterError("");
  const unknown = Boolean(query.collection) && !collection;
  document.body.classList.toggle("starting", isStart(query) && !unknown);
  if (unknown) {
    const title = texts.messages.noCollection(quoted(query.collection));
    above.append(failure({ title, detail: texts.messages.noCollectionDetail }, begin, others()));
  } else if (!collection?.images && !collection?.texts) showNothingStored(start);
  else if (isStart(query)) {
    const mine = results;
    const { signal } = pending;
    const shownStart = showStart(start, collection, saved.element, listed.collections.length > 1, collection.name === listed.default, (words) => {
      go({ ...EMPTY, collection: query.collection, text: words });
    }, signal);
    // After the examples: their pictures come first.
    shownStart.then(() => saved.list(collection.name, signal));
    if (mine.loaded) {
      show(true);
      scrollTo(0, mine.scroll);
      return;
    }
    await shownStart;
    if (mine === results) load(true);
  } else above.append(sayMore(query));
}

/** Fetch the first page, or the next. */
async function load(first = false) {
  if (loading || (!first && (!results.loaded || results.complete))) return;
  const mine = results;
  loading = true;
  if (!first) below.replaceChildren(h("p", { class: "ending" }, texts.results.loadingMore));
  try {
    await mine.more(pending.signal);
    mine.failed = null;
  } catch (error) {
    if (mine !== results || isAbort(error)) return;
    mine.failed = error;
  }
  if (mine !== results) return;
  loading = false;
  if (mine.failed) {
    fail(mine.failed, first);
    return;
  }
  addToCache(mine);
  if (first) useStoredIds();
  show(first);
  openedHit.show();
}

/** Mark the shown results as those of the query, so that they can be used. */
function markCurrent() {
  shown.classList.remove("waiting", "stale");
  shown.inert = false;
}

/** Show the results so far. `fresh`: they belong to another query than those shown. */
function show(fresh = false) {
  markCurrent();
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
    above.replaceChildren();
    const { hits } = results;
    if (starting) above.append(h("h2", { class: "all" }, texts.results.all));
    else if (!hits.length) {
      above.append(noHits(query, {
        onNoFilter: () => go({ ...query, where: "" }),
        onOther: () => go({ ...query, target: query.target === "images" ? "texts" : "images" }),
      }));
    } else if (results.nothingClose) above.append(nothingClose(query, byWords()));
    showSummary();
  }
  below.replaceChildren();
  if (!listing && results.complete && results.hits.length) below.append(ending(results.hits.length, query));
  watchEnd();
}

function showSummary() {
  const { hits, nothingClose: none, took } = results;
  if (results instanceof Listing) {
    const found = shared.pictures(hits.length);
    toolbar.summarise(isStart(query) ? "" : found);
    status.textContent = query.where ? texts.results.matchFilter(hits.length) : found;
    return;
  }
  const words = !hits.length ? texts.results.none : none ? texts.results.noneClose : summary(hits);
  const bars = hits.some((hit) => !hit.by_words);
  toolbar.summarise(hits.length && took ? `${words} · ${duration(took)}` : words, bars);
  status.textContent = texts.results.saidFor(words, describe(query));
}

const duration = (took) => (took < 1000
  ? texts.results.milliseconds(number(took, took < 10 ? 1 : 0)) : texts.results.seconds(number(took / 1000, 1)));

/** Searches again by words, too; null if that is not possible. */
const byWords = () =>
  (query.text && query.mode === "dense" && collection?.modes.includes("hybrid")
    ? () => go({ ...query, mode: "hybrid" })
    : null);

/** Buttons that search in an existing collection. */
const others = () => listed.collections.map(({ name }) => ({
  words: texts.messages.searchIn(name),
  run: () => go({ ...query, collection: name === listed.default ? "" : name }),
}));

/** Buttons that may help where trying again cannot. */
function waysOut(error) {
  if (error.slug === "collection") return others();
  if (error.slug !== "image") return [];
  return query.pictures.map((token) => ({
    words: texts.messages.removePicture(picture(token)?.name),
    run: () => go(without(query, "pictures", token)),
  }));
}

/** The error, with the dropped picture's name in its title: the server does not know the name. */
function withPictureName(error) {
  if (error.slug !== "image" || query.pictures.length !== 1) return error;
  const name = picture(query.pictures[0])?.name;
  return name ? { ...error, title: texts.messages.unreadable(name) } : error;
}

/** Say an error to people who do not see it. */
function sayError(error) {
  status.replaceChildren(isolated(error.detail || error.title, { lang: languageOf(error) }));
}

function fail(error, first) {
  const had = !isEmpty();
  markCurrent();
  if (isStart(query)) {
    below.replaceChildren(failure(error, () => load(true)));
    return;
  }
  document.body.classList.remove("starting");
  const isFilterError = query.where && (/^the filter/i.test(error.detail ?? "") || error.slug === "filter");
  if (first) {
    start.replaceChildren();
    below.replaceChildren();
    toolbar.summarise("");
    if (isFilterError) {
      toolbar.showFilterError(error.detail);
      above.replaceChildren();
      // Keep the old results visible while the user corrects the filter.
      if (had) {
        shown.classList.add("stale");
        shown.inert = true;
      } else clearGrids();
    } else {
      clearGrids();
      above.replaceChildren(failure(withPictureName(error), () => load(true), waysOut(error)));
    }
  } else {
    below.replaceChildren(failure(error, () => load()));
  }
  sayError(error);
}

/** If a dropped picture is stored, put its id in the query, so that the link can be shared. */
function useStoredIds() {
  const ids = new Set(results.hits.map((hit) => hit.image_id));
  let next = query;
  for (const token of query.pictures) {
    const { id } = picture(token) ?? {};
    if (id && ids.has(id)) next = withOne(without(next, "pictures", token), "ids", id);
  }
  if (next === query) return;
  query = next;
  results.query = next;
  history.replaceState(null, "", toAddress(next));
  box.show(query, collection?.name ?? "");
  addToCache(results);
}

function showNote() {
  note.hidden = !pictureMissing && !query.pictures.length;
  note.replaceChildren(icon("info"), pictureMissing
    ? texts.results.pictureMissing
    : texts.results.pictureStays);
}

/** The address's query, without dropped pictures that this tab does not have. */
function readAddress() {
  const asked = fromAddress(location.search);
  const available = asked.query.pictures.filter((token) => picture(token));
  pictureMissing = available.length < asked.query.pictures.length;
  asked.query = { ...asked.query, pictures: available };
  if (pictureMissing) history.replaceState(history.state, "", toAddress(asked.query, { open: asked.open }));
  return asked;
}

function addToCache(entry) {
  const key = toAddress(entry.query);
  cache.delete(key);
  cache.set(key, entry);
  for (const old of [...cache.keys()].slice(0, -CACHE_SIZE)) cache.delete(old);
}

function keepScroll() {
  if (results?.loaded) results.scroll = scrollY;
}

// Load more when the end comes near.

const watcher = new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) load();
}, { rootMargin: `0px 0px ${PRELOAD_MARGIN}px 0px` });

/** Observe the end again: the observer reports an end that stays in view only once. */
function watchEnd() {
  watcher.unobserve(end);
  if (results.loaded && !results.complete) watcher.observe(end);
}

window.addEventListener("popstate", () => {
  const asked = readAddress();
  openedHit.set(asked.open);
  typing = false;
  if (toAddress(asked.query) !== toAddress(query)) {
    keepScroll();
    query = asked.query;
    render();
  }
  openedHit.show();
});

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    box.focus();
  } else if (event.key === "?") {
    showShortcuts();
  } else if (event.key === "Escape") {
    selection.clear();
  }
});
$("keys").addEventListener("click", showShortcuts);
$("add").addEventListener("click", upload.open);
$("sign-out").addEventListener("click", async () => {
  await signOut().catch((error) => toast(error.detail || error.message));
  location.assign("/");
});
$("home").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go({ ...EMPTY, collection: query.collection });
});

async function begin() {
  history.scrollRestoration = "manual";
  const asked = readAddress();
  query = asked.query;
  box.show(query, query.collection);
  try {
    listed = await collections();
  } catch (error) {
    above.replaceChildren(failure(error, begin));
    sayError(error);
    return;
  }
  above.replaceChildren();
  $("sign-out").hidden = !isSignedIn();
  ready = true;
  render();
  openedHit.set(asked.open);
  openedHit.show();
}

begin();
