// Run the search page: everything shown follows from one query, which the address holds.

import { collections, isAbort, isLoading, isSignedIn, onLocked, signOut } from "../shared/api.js";
import { quoted } from "../shared/bidi.js";
import { createSignIn, createWriteKeyDialog } from "../shared/dialogs.js";
import { $, toast } from "../shared/dom.js";
import { withClause } from "../shared/filters.js";
import { EMPTY, describe, fromAddress, isAsking, isListing, isStart, toAddress, withOne } from "../shared/query.js";
import { onWriteLocked } from "../shared/write-api.js";
import { texts } from "../texts/en/search.js";
import { withKnownPictures, withStoredIds } from "./dropped-pictures.js";
import { createShortcutsDialog, listenToKeys } from "./keyboard.js";
import { Listing } from "./listing.js";
import { createOpenedHit } from "./opened-hit.js";
import { ResultCache } from "./result-cache.js";
import { createResultsArea } from "./results-area.js";
import { Results } from "./results.js";
import { createSavedSearches } from "./saved-searches.js";
import { createSearchBox } from "./search-box.js";
import { createSelection } from "./selection.js";
import { createToolbar } from "./toolbar.js";
import { createUpload } from "./upload.js";

/** Milliseconds before placeholders are shown while results load. */
const PLACEHOLDER_DELAY = 160;
/** Milliseconds before a search that takes long asks whether the server is loading the model. */
const LOADING_DELAY = 1500;

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
const cache = new ResultCache();

const collectionName = () => collection?.name ?? query.collection;

// The parts of the page.

const box = createSearchBox($("search"), {
  onChange: (next, done) => go(next, { live: !done }),
  onDown: () => area.focus(),
});
const saved = createSavedSearches({
  query: () => query, collection: collectionName, onRun: (next) => go(next),
});
const toolbar = createToolbar($("tools"), { onChange: (changes) => go({ ...query, ...changes }), save: saved.button });
const handlers = {
  collection: collectionName,
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
  collection: collectionName,
  onDeleted: reload,
  onChanged: reload,
  onChange: () => area.showSelection(selection),
});
const upload = createUpload({ collection: () => query.collection, onAdded: reload });
const area = createResultsArea($("results"), {
  query: () => query,
  results: () => results,
  collection: () => collection,
  listed: () => listed,
  isPictureMissing: () => pictureMissing,
  toolbar,
  saved,
  onQuery: (next) => go(next),
  onExample: (words) => go({ ...EMPTY, collection: query.collection, text: words }),
  onMore: () => load(),
  onAgain: () => load(true),
  onReload: begin,
}, handlers);
const openedHit = createOpenedHit({
  query: () => query,
  results: () => results,
  collection: () => query.collection || listed.default,
  signal: () => pending.signal,
  isFirst: () => isFirst,
  onEnd: () => load(),
  onClosed: (id) => area.focus(id),
}, {
  ...handlers,
  onFilter: (filter) => {
    openedHit.leave();
    go({ ...query, where: withClause(query.where, filter) });
  },
  onGone: reload,
});
const showShortcuts = createShortcutsDialog();
onLocked(createSignIn());
onWriteLocked(createWriteKeyDialog());

// From a query to its results.

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
  box.show(query, collectionName());
  if (!ready) return;  // `begin` renders again when the collections are known
  renderFrame();
  pending.abort();
  pending = new AbortController();
  results = cache.get(query) ?? (isListing(query) ? new Listing(query) : new Results(query));
  loading = false;
  if (isStart(query) || !(isAsking(query) || isListing(query)) || !canBeAsked()) {
    renderWithoutQuery();
    return;
  }
  if (results.loaded) {
    showLoaded();
    return;
  }
  scrollTo(0, 0);
  const mine = results;
  if (area.isEmpty()) setTimeout(() => mine === results && !results.loaded && !results.failed && area.showPlaceholders(), PLACEHOLDER_DELAY);
  area.wait();
  setTimeout(() => sayLoading(mine), LOADING_DELAY);
  load(true);
}

/** Show what is around the results: the toolbar, the title, the links to the other pages. */
function renderFrame() {
  toolbar.show(query, collection, listed.collections.map((one) => one.name), listed.default);
  saved.offer(query);
  const title = isAsking(query) ? describe(query) : quoted(query.where);
  document.title = title ? `${title} · twinlens` : "twinlens";
  const within = new URLSearchParams(query.collection ? { collection: query.collection } : {});
  // Dropped pictures stay in this tab.
  $("map").href = `/map${toAddress({ ...query, pictures: [] }).slice(1)}`;
  $("review").href = `/review${within.size ? `?${within}` : ""}`;
  $("review").hidden = !collection?.fields?.images?.flagged;
}

/** Show the start screen with all pictures below it, or why nothing can be searched. */
async function renderWithoutQuery() {
  const mine = results;
  const startShown = area.showWithoutResults(pending.signal);
  if (!startShown) return;
  if (mine.loaded) {
    showLoaded();
    return;
  }
  await startShown;
  if (mine === results) load(true);
}

/** Whether the query's collection exists, and has something to list; where there are any, a search says itself what is wrong. */
const canBeAsked = () => (isAsking(query) && listed.collections.length > 0) || Boolean(collection?.images || collection?.texts);

/** Show results that are here already, as they were left. */
function showLoaded() {
  area.show(true);
  scrollTo(0, results.scroll);
}

function keepScroll() {
  if (results?.loaded) results.scroll = scrollY;
}

/** Fetch the first page, or the next. */
async function load(first = false) {
  if (loading || (!first && (!results.loaded || results.complete))) return;
  const mine = results;
  loading = true;
  if (!first) area.sayLoadingMore();
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
    area.showFailure(mine.failed, first);
    return;
  }
  cache.add(mine);
  if (first) useStoredIds();
  area.show(first);
  openedHit.show();
}

/** Say that the server is loading the model, if a search waits for that. */
async function sayLoading(mine) {
  const waits = () => mine === results && !mine.loaded && !mine.failed;
  if (!waits()) return;
  const found = await isLoading(pending.signal).catch(() => false);
  if (found && waits()) area.sayLoadingModel();
}

/** If a dropped picture is stored, put its id in the query, so that the link can be shared. */
function useStoredIds() {
  const next = withStoredIds(query, results.hits);
  if (next === query) return;
  query = next;
  results.query = next;
  history.replaceState(null, "", toAddress(next));
  box.show(query, collection?.name ?? "");
  cache.add(results);
}

// From the address and the keys to a query.

/** The address's query, without dropped pictures that this tab does not have. */
function readAddress() {
  const asked = fromAddress(location.search);
  const known = withKnownPictures(asked.query);
  pictureMissing = known.pictures.length < asked.query.pictures.length;
  if (pictureMissing) history.replaceState(history.state, "", toAddress(known, { open: asked.open }));
  return { ...asked, query: known };
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

listenToKeys({ "/": box.focus, "?": showShortcuts, Escape: selection.clear });
$("keys").addEventListener("click", showShortcuts);
$("add").addEventListener("click", upload.open);
$("sign-out").addEventListener("click", async () => {
  await signOut().catch((error) => toast(error.message));
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
    area.showNoCollections(error);
    return;
  }
  area.clearMessages();
  $("sign-out").hidden = !isSignedIn();
  ready = true;
  render();
  openedHit.set(asked.open);
  openedHit.show();
}

begin();
