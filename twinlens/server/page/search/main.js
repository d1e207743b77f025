// The page: what is asked is one value, and everything shown follows from it and from the address.

import { collections, isAbort, item, onLocked } from "../shared/api.js";
import { createBox } from "./search-box.js";
import { createHelp, createSignIn } from "../shared/dialogs.js";
import { h, icon, isTyping, toast } from "../shared/dom.js";
import { createTools } from "./toolbar.js";
import { createGrid } from "./result-grid.js";
import { ending, failure, noHits, nothingClose, sayMore } from "./messages.js";
import { picture } from "./dropped-pictures.js";
import { EMPTY, describe, fromAddress, isAsking, isBlank, toAddress, withOne, without } from "../shared/query.js";
import { summary } from "../shared/hits.js";
import { Results } from "./results.js";
import { showNothingStored, showStart } from "./start-screen.js";
import { createViewer } from "./viewer.js";

/** Results that going back finds again without asking. */
const REMEMBERED = 12;
/** Pixels below the window where more is fetched. */
const AHEAD = 1400;
/** Milliseconds that old results may stay before something else shows that new ones are coming. */
const PATIENCE = 160;

const $ = (id) => document.getElementById(id);
const status = $("status");
const place = $("results");

let query = EMPTY;
let results = null;
let served = null;
let listed = { collections: [], default: "" };
let under = new AbortController();
let loading = false;
let typing = false;
let opened = "";
let looked = null;
let lost = false;
let ready = false;
const remembered = new Map();

// What stands in the place of results, from top to bottom.
const start = h("div", { class: "start" });
const note = h("p", { class: "note", hidden: true });
const above = h("div", { class: "above" });
const shown = h("div", { class: "shown" });
const below = h("div", { class: "below" });
const end = h("div", { class: "end", "aria-hidden": "true" });
place.append(start, note, above, shown, below, end);

const box = createBox($("search"), {
  onChange: (next, done) => go(next, { live: !done }),
  onDown: () => grid.focus(),
});
const tools = createTools($("tools"), { onChange: (changes) => go({ ...query, ...changes }) });
const handlers = {
  addressOf: (hit) => toAddress(query, { open: hit.id }),
  onOpen: (hit) => open(hit.id),
  onMore: (hit) => {
    leaveViewer();
    go({ ...query, text: "", nots: [], pictures: [], unlikes: [], ids: [hit.image_id || hit.id], target: "images" });
    toast("Pictures like this one");
  },
  onNot: (hit) => {
    leaveViewer();
    go(withOne({ ...query, ids: query.ids.filter((id) => id !== hit.id) }, "unlikes", hit.id));
    toast("Fewer like that one");
  },
  onLeave: () => box.focus(),
};
const grid = createGrid(shown, handlers);
const viewer = createViewer({
  ...handlers,
  onMove: (by) => move(by),
  onClose: () => closed(),
  onFilter: (filter) => {
    leaveViewer();
    go({ ...query, where: query.where ? `(${query.where}) and ${filter}` : filter });
  },
});
const help = createHelp();
onLocked(createSignIn());

/** Ask something else. `live`: somebody is typing, and further queries take this one's place. */
function go(next, { live = false } = {}) {
  const address = toAddress(next);
  const same = address === toAddress(query);
  keepScroll();
  query = next;
  if (!same) {
    lost = false;
    if (live && typing) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
  }
  typing = live;
  if (same && results && !results.failed) box.show(query, served?.name ?? "");
  else render();
}

/** Show the query: the box, the tools, and its results, remembered or new. */
function render() {
  served = listed.collections.find((one) => one.name === (query.collection || listed.default));
  box.show(query, served?.name ?? query.collection);
  if (!ready) return;  // `begin` asks what was typed by then
  tools.show(query, served, listed.collections.map((one) => one.name), listed.default);
  document.title = isAsking(query) ? `${describe(query)} · twinlens` : "twinlens";
  const map = new URLSearchParams(query.collection ? { collection: query.collection } : {});
  $("map").href = `/map${map.size ? `?${map}` : ""}`;
  under.abort();
  under = new AbortController();
  const key = toAddress(query);
  results = remembered.get(key) ?? new Results(query);
  loading = false;
  if (results.begun) {
    show(true);
    scrollTo(0, results.scroll);
    return;
  }
  if (!isAsking(query)) {
    showUnasked();
    return;
  }
  scrollTo(0, 0);
  const had = shown.childElementCount > 0 && grid.links() > 0;
  shown.classList.toggle("waiting", had);
  const mine = results;
  if (!had) setTimeout(() => mine === results && !results.begun && !results.failed && skeleton(), PATIENCE);
  load(true);
}

function skeleton() {
  start.replaceChildren();
  above.replaceChildren();
  below.replaceChildren();
  grid.skeleton(query.target);
}

function showUnasked() {
  settle();
  for (const part of [above, below, start]) part.replaceChildren();
  showNote();
  grid.clear();
  tools.say("");
  tools.wrong("");
  const unknown = Boolean(query.collection) && !served;
  document.body.classList.toggle("starting", isBlank(query) && !query.where && !unknown);
  if (unknown) {
    const title = `There is no collection ${query.collection}`;
    above.append(failure({ title, detail: "It may have been dropped, or the link is wrong." }, begin, others()));
  } else if (!served?.images && !served?.texts) showNothingStored(start);
  else if (isBlank(query) && !query.where) {
    showStart(start, served, listed.collections.length > 1, (words) => {
      go({ ...EMPTY, collection: query.collection, text: words });
    }, under.signal);
  } else above.append(sayMore(query));
}

/** Fetch the first page, or the next. */
async function load(first = false) {
  if (loading || (!first && (!results.begun || results.complete))) return;
  const mine = results;
  loading = true;
  if (!first) below.replaceChildren(h("p", { class: "ending" }, "Loading more …"));
  try {
    await mine.more(under.signal);
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
  remember(mine);
  if (first) adopt();
  show(first);
  if (opened) showOpened();
}

/** What is shown is what was asked for, and can be used. */
function settle() {
  shown.classList.remove("waiting", "stale");
  shown.inert = false;
}

/** Results as they are now. `fresh`: others than before. */
function show(fresh = false) {
  settle();
  document.body.classList.remove("starting");
  start.replaceChildren();
  tools.wrong("");
  showNote();
  grid.show(results, fresh);
  if (fresh) {
    above.replaceChildren();
    const { hits } = results;
    if (!hits.length) {
      above.append(noHits(query, {
        onNoFilter: () => go({ ...query, where: "" }),
        onOther: () => go({ ...query, target: query.target === "images" ? "texts" : "images" }),
      }));
    } else if (results.nothingClose) above.append(nothingClose(query));
    say();
  }
  below.replaceChildren();
  if (results.complete && results.hits.length) below.append(ending(results.hits.length, query));
  watchEnd();
}

function say() {
  const { hits, nothingClose: none, took } = results;
  const words = !hits.length ? "No results" : none ? "Nothing close" : summary(hits);
  tools.say(hits.length && took ? `${words} · ${duration(took)}` : words);
  status.textContent = `${words} for ${describe(query)}`;
}

const duration = (took) =>
  (took < 1000 ? `${took < 10 ? took.toFixed(1) : Math.round(took)} ms` : `${(took / 1000).toFixed(1)} s`);

/** Collections that there are, to look into instead. */
const others = () => listed.collections.map(({ name }) => ({
  words: `Search in ${name}`,
  run: () => go({ ...query, collection: name === listed.default ? "" : name }),
}));

/** What may help more than asking the same again. */
function waysOut(error) {
  if (error.slug === "collection") return others();
  if (error.slug !== "image") return [];
  return query.pictures.map((token) => ({
    words: `Remove ${picture(token)?.name || "the picture"}`,
    run: () => go(without(query, "pictures", token)),
  }));
}

/** An error in words that name what was dropped here: the server does not know its name. */
function named(error) {
  if (error.slug !== "image" || query.pictures.length !== 1) return error;
  const name = picture(query.pictures[0])?.name;
  return name ? { ...error, title: `${name} cannot be read` } : error;
}

function fail(error, first) {
  const had = grid.links() > 0;
  settle();
  document.body.classList.remove("starting");
  const ofFilter = query.where && (/^the filter/i.test(error.detail ?? "") || error.slug === "filter");
  if (first) {
    start.replaceChildren();
    below.replaceChildren();
    tools.say("");
    if (ofFilter) {
      tools.wrong(error.detail);
      above.replaceChildren();
      // What was there stays to be seen while the filter is put right.
      if (had) {
        shown.classList.add("stale");
        shown.inert = true;
      } else grid.clear();
    } else {
      grid.clear();
      above.replaceChildren(failure(named(error), () => load(true), waysOut(error)));
    }
  } else {
    below.replaceChildren(failure(error, () => load()));
  }
  status.textContent = error.detail || error.title || "";
}

/** A picture that was dropped and is stored goes by its id from now on: its link can be shared. */
function adopt() {
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
  box.show(query, served?.name ?? "");
  remember(results);
}

function showNote() {
  note.hidden = !lost && !query.pictures.length;
  note.replaceChildren(icon("info"), lost
    ? "The picture of this link stayed in the tab where it was dropped. Drop it again."
    : "Your picture is not in the collection: it stays in this tab, and links do not carry it.");
}

/** What the address asks for, without pictures that another tab, or this one before, had. */
function readAddress() {
  const asked = fromAddress(location.search);
  const there = asked.query.pictures.filter((token) => picture(token));
  lost = there.length < asked.query.pictures.length;
  asked.query = { ...asked.query, pictures: there };
  if (lost) history.replaceState(history.state, "", toAddress(asked.query, { open: asked.open }));
  return asked;
}

function remember(one) {
  const key = toAddress(one.query);
  remembered.delete(key);
  remembered.set(key, one);
  for (const old of [...remembered.keys()].slice(0, -REMEMBERED)) remembered.delete(old);
}

function keepScroll() {
  if (results?.begun) results.scroll = scrollY;
}

// Loading on.

const watcher = new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) load();
}, { rootMargin: `0px 0px ${AHEAD}px 0px` });

/** Look at the end anew: what is already in sight is told once only. */
function watchEnd() {
  watcher.unobserve(end);
  if (results.begun && !results.complete) watcher.observe(end);
}

// One hit, large. The address has its id, so that going back closes it.

function open(id) {
  history.pushState({ opened: true }, "", toAddress(query, { open: id }));
  opened = id;
  showOpened();
}

async function showOpened() {
  if (!opened) {
    viewer.close();
    return;
  }
  const id = opened;
  looked?.abort();
  const at = results?.hits.findIndex((hit) => hit.id === id) ?? -1;
  if (at >= 0) {
    const { hits, complete } = results;
    viewer.show(hits[at], {
      first: at === 0, last: at === hits.length - 1 && complete,
      place: `${at + 1} of ${complete ? hits.length : `${hits.length}+`}`,
      link: toAddress(query, { open: id }), neighbours: [hits[at - 1], hits[at + 1]],
    });
    if (at > hits.length - 8) load();
    return;
  }
  looked = new AbortController();
  try {
    const found = await item(id, query.collection || listed.default, looked.signal);
    if (opened !== id) return;
    viewer.show(found, {
      first: true, last: true, place: "", link: toAddress(query, { open: id }), neighbours: [],
    });
  } catch (error) {
    if (isAbort(error) || opened !== id) return;
    opened = "";
    history.replaceState(null, "", toAddress(query));
    toast(error.detail || error.message);
  }
}

function move(by) {
  const { hits } = results;
  const next = hits[hits.findIndex((hit) => hit.id === opened) + by];
  if (!next || !hits.some((hit) => hit.id === opened)) return;
  opened = next.id;
  history.replaceState(history.state, "", toAddress(query, { open: opened }));
  showOpened();
}

/** The dialog was closed: by its button, by Escape, or because somebody went back. */
function closed() {
  const was = opened;
  if (!was) return;
  opened = "";
  if (history.state?.opened) history.back();
  else history.replaceState(null, "", toAddress(query));
  grid.focus(was);
}

/** Close without going back: something else takes the address. */
function leaveViewer() {
  if (!opened) return;
  opened = "";
  viewer.close();
}

window.addEventListener("popstate", () => {
  const asked = readAddress();
  opened = asked.open;
  typing = false;
  if (toAddress(asked.query) !== toAddress(query)) {
    keepScroll();
    query = asked.query;
    render();
  }
  if (!opened && viewer.isOpen()) viewer.close();
  else if (opened) showOpened();
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
    help();
  }
});
$("keys").addEventListener("click", help);
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
    status.textContent = error.detail || error.title;
    return;
  }
  above.replaceChildren();
  ready = true;
  render();
  opened = asked.open;
  if (opened) showOpened();
}

begin();
