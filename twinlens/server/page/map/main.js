// Run the map page: load the points, highlight what a search finds, list the pictures in view.

import { browse, collections, isAbort, languageOf, mapPictures, mapPoints, mapRegions, onLocked, search, thumbnailOf } from "../shared/api.js";
import { isolated, quoted } from "../shared/bidi.js";
import { offerCollections } from "../shared/collection-select.js";
import { createSignIn } from "../shared/dialogs.js";
import { $, fadingImage, h, isTyping } from "../shared/dom.js";
import { goneIds, goneLabel } from "../shared/gone.js";
import { hasCaption, perhaps, titleOf } from "../shared/hits.js";
import { proposalFor } from "../shared/proposals.js";
import { EMPTY, OPENED_ON_MAP, describe, fromAddress, isAsking, readTyped, toAddress, toBody, toTyped } from "../shared/query.js";
import { texts } from "../texts/en/map.js";
import { texts as shared } from "../texts/en/shared.js";
import { unpack } from "./points.js";
import { createPreviewCard } from "./preview-card.js";
import { Thumbnails } from "./thumbnails.js";
import { MapView } from "./view.js";

/** Hits that are highlighted at most; those much less relevant than the best are not. */
const MAX_HIGHLIGHTED = 120;
const MIN_RELEVANCE = 0.2;
/** Pictures of a filter that are highlighted at most, if nothing is searched for: what one request lists. */
const MAX_FILTERED = 500;
/** Pictures in the list. */
const MAX_LISTED = 48;
/** Milliseconds that the pointer must rest on a picture before its card is shown. */
const HOVER_DELAY = 120;
/** Milliseconds after the last key press before a search starts. */
const TYPING_PAUSE = 350;
/** Milliseconds in which requests for titles are collected into one. */
const TITLE_BATCH_DELAY = 40;

const stage = $("stage");
let query = EMPTY;
let method = "pca";
let map = { ids: [], total: 0, collection: "" };
let numbers = new Map();
let hits = new Map();
let pending = new AbortController();
let hoverTimer = 0;
let opening = 0;
let notice = null; // what the status says instead of counts, an element or a text
const titles = new Map();

const thumbnail = (id, size) => thumbnailOf(id, map.collection, size);
const emptyQuery = () => ({ ...EMPTY, collection: query.collection });
const addressOf = (id) => toAddress({ ...emptyQuery(), ids: [id] }, { open: id });
const moreOf = (id) => toAddress({ ...emptyQuery(), ids: [id] });

const view = new MapView($("canvas"), $("mini"), {
  point: (point) => hover(point),
  press: (point, event) => press(point, event),
  settle: () => updateList(),
});
const card = createPreviewCard($("card"), {
  addressOf,
  moreOf,
  imageOf: (id) => thumbnail(id, 320),
  onClose: () => closeCard(),
});
onLocked(createSignIn());

let batch = null;

/**
 * A picture's title, and whether it is a caption. It is requested once, in a batch with others.
 * @returns {Promise<{title: string, captioned: boolean}>}
 */
function titleFor(id) {
  const hit = hits.get(id);
  if (hit) return Promise.resolve({ title: titleOf(hit), captioned: hasCaption(hit) });
  if (!titles.has(id)) {
    if (!batch) {
      const ids = [];
      batch = { ids };
      batch.answer = new Promise((resolve) => setTimeout(resolve, TITLE_BATCH_DELAY)).then(() => {
        batch = null;
        return mapPictures(ids, method, map.collection);
      }).catch(() => ({}));
    }
    batch.ids.push(id);
    titles.set(id, batch.answer.then((pictures) => {
      const { title = "", captioned = true, proposed = false } = pictures[id] ?? {};
      return { title: proposed ? perhaps(title) : title, captioned };
    }));
    if (titles.size > 5_000) titles.delete(titles.keys().next().value);
  }
  return titles.get(id);
}

/** Show a picture's title; later, if it is only a file name, what the picture may show. */
async function showTitle(id, show) {
  const { title, captioned } = await titleFor(id);
  show(title);
  if (captioned) return;
  const proposal = await proposalFor(id, map.collection);
  if (proposal) show(`${perhaps(proposal.text)} (${quoted(title)})`);
}

function hover(point) {
  clearTimeout(hoverTimer);
  if (card.isPinned) return;
  view.focus(point);
  if (point < 0) {
    card.hide();
    return;
  }
  const id = map.ids[point];
  if (card.id !== id) card.hide();
  hoverTimer = setTimeout(() => showCard(point, false), HOVER_DELAY);
}

function showCard(point, pinned) {
  const id = map.ids[point];
  view.focus(point);
  const relevance = hits.get(id)?.relevance;
  card.show(id, { title: "", relevance }, { place: view.place(point), pinned });
  showTitle(id, (title) => {
    if (card.id === id) card.rename(title);
  });
}

/** Remember which picture is opened: closing it leads back here. */
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href*='open=']");
  if (link) sessionStorage.setItem(OPENED_ON_MAP, link.getAttribute("href"));
});

function press(point, event) {
  clearTimeout(hoverTimer);
  if (point < 0) closeCard();
  else if (event.pointerType === "mouse") {
    const address = addressOf(map.ids[point]);
    sessionStorage.setItem(OPENED_ON_MAP, address);
    location.assign(address);
  } else showCard(point, true);
}

function closeCard() {
  card.hide();
  view.focus(-1);
}

/** List the pictures in view, for people who cannot use the canvas. */
function updateList() {
  const { count: all, points } = view.inView(MAX_LISTED);
  showCounts(all);
  const list = $("list");
  const focused = document.activeElement?.dataset?.id;
  const entries = new Map([...list.children].map((one) => [one.dataset.id, one]));
  const ids = points.map((point) => map.ids[point]);
  // Keep the focused entry, even if its picture left the view.
  if (focused && !ids.includes(focused)) ids.unshift(focused);
  list.replaceChildren(...ids.map((id) => entries.get(id) ?? createEntry(id)));
  for (const [id, element] of entries) if (!ids.includes(id)) visible.unobserve(element);
  if (focused) list.querySelector(`a[data-id="${focused}"]`)?.focus({ preventScroll: true });
  for (const one of list.children) one.classList.toggle("highlighted", hits.has(one.dataset.id));
}

/** Load an entry's thumbnail and title when it scrolls into view. */
const visible = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    visible.unobserve(target);
    const link = target.firstChild;
    const { id } = target.dataset;
    link.querySelector(".map-list-picture").append(fadingImage(thumbnail(id, 160), { alt: "" }));
    showTitle(id, (title) => {
      link.classList.remove("waiting");
      if (title) link.querySelector(".map-list-title").replaceChildren(isolated(title));
    });
  }
});

function createEntry(id) {
  const link = h(
    "a",
    {
      class: "waiting", href: addressOf(id), data: { id },
      on: {
        focus: () => link.matches(":focus-visible") && showCardOf(id),
        blur: () => card.id === id && closeCard(),
        pointerenter: () => view.focus(numbers.get(id) ?? -1),
        pointerleave: () => view.focus(-1),
      },
    },
    h("span", { class: "map-list-picture" }),
    h("span", { class: "map-list-title clamp" }, shared.aPicture),
  );
  const element = h("li", { data: { id } }, link);
  visible.observe(element);
  return element;
}

function showCardOf(id) {
  const number = numbers.get(id);
  if (number !== undefined) showCard(number, false);
}

function showCounts(inView) {
  if (!map.collection) return; // the status says that the map is drawn
  const of = map.ids.length < map.total ? texts.sample(map.total) : "";
  const highlighted = hits.size ? texts.highlighted(hits.size, asked()) : "";
  $("status").replaceChildren(notice ?? (map.ids.length ? `${texts.status(inView)}${of}${highlighted}` : ""));
  $("side-title").textContent = texts.inView(inView);
}

/** The query in a few words, with its filter. */
function asked() {
  if (!query.where) return describe(query);
  const where = quoted(query.where);
  return isAsking(query) ? texts.withFilter(describe(query), where) : texts.filter(where);
}

function message(title, text) {
  $("message").replaceChildren(h("h2", {}, title), h("p", {}, text));
  $("message").hidden = !title;
}

/** Get the points; poll while the server computes them. */
async function load() {
  for (;;) {
    const response = await mapPoints(method, query.collection);
    if (response.status === 202) {
      $("status").textContent = texts.drawing;
      await new Promise((resolve) => setTimeout(resolve, 1_000 * (Number(response.headers.get("Retry-After")) || 1)));
      continue;
    }
    const methods = (response.headers.get("X-Map-Methods") ?? "pca").split(",");
    $("method").hidden = methods.length < 2;
    return unpack(await response.arrayBuffer());
  }
}

async function open() {
  opening += 1;
  const mine = opening;
  message("", "");
  try {
    const loaded = await load();
    if (mine !== opening) return; // the user chose another method meanwhile
    map = loaded;
  } catch (error) {
    if (mine !== opening) return;
    $("status").textContent = "";
    const { gone } = shared;
    if (error.slug === "collection" && !query.collection) message(texts.empty.title, texts.empty.detail);
    else if (error.slug === "collection") message(gone.collection(quoted(query.collection)), gone.detail.collection);
    else message(texts.failed, isolated(error.message, { lang: languageOf(error) }));
    return;
  }
  numbers = new Map(map.ids.map((id, number) => [id, number]));
  titles.clear();
  view.thumbnails = new Thumbnails((id, large) => thumbnail(id, large ? 320 : 160), () => view.draw());
  view.show(map.ids, map.xy);
  if (!map.ids.length) message(texts.empty.title, texts.empty.detail);
  mapRegions(method, map.collection).then((regions) => {
    if (mine !== opening) return;
    view.regions = regions.filter(({ id }) => numbers.has(id)).map(({ name, id }) => ({ name: shared.everyday(name), point: numbers.get(id) }));
    $("regions").textContent = regions.map(({ name, count }) => texts.region(quoted(shared.everyday(name)), count)).join(", ");
  }, () => {}); // without the model there are no names
  if (isAsking(query) || query.where) await highlight();
}

function chooseCollection(collection) {
  query = { ...query, collection, ids: [], unlikes: [] };
  const address = toAddress(query);
  history.replaceState(null, "", `/map${address.slice(1)}`);
  hits = new Map();
  notice = null;
  open();
}

/** Highlight what the query finds, and fly there. */
async function highlight() {
  pending.abort();
  pending = new AbortController();
  const { signal } = pending;
  closeCard();
  notice = null;
  document.title = texts.pageTitle(isAsking(query) ? describe(query) : quoted(query.where));
  $("results").href = toAddress(query);
  // What is found is placed when the map is there.
  if (!map.collection) return;
  try {
    const { chosen, close } = await find(signal);
    await addMissing(chosen.map((hit) => hit.id), signal);
    hits = new Map(chosen.filter((hit) => numbers.has(hit.id)).map((hit) => [hit.id, hit]));
    const points = [...hits.keys()].map((id) => numbers.get(id));
    if (!points.length && (isAsking(query) || query.where)) notice = (await gone()) ?? texts.nothing(asked());
    else if (!close) notice = texts.nothingClose(asked());
    if (signal.aborted) return;
    view.highlight(points);
    if (isAsking(query)) view.flyTo(points.slice(0, 24));
    updateList();
  } catch (error) {
    if (isAbort(error)) return;
    const said = goneIds(query, error).length ? texts.gone(shared.gone.pictures) : await gone();
    if (signal.aborted) return;
    hits = new Map();
    view.highlight([]);
    notice = said ?? isolated(error.message, { lang: languageOf(error) });
    updateList();
  }
}

/** What the query finds, or its filter selects. `close`: unless only distant pictures are found. */
async function find(signal) {
  if (!isAsking(query)) {
    const chosen = query.where ? (await browse(query.where, 0, MAX_FILTERED, map.collection, signal)).items : [];
    return { chosen: chosen.map(({ relevance, score, ...hit }) => hit), close: true };
  }
  const found = await search({ ...toBody(query), target: "images", limit: MAX_HIGHLIGHTED, collection: map.collection }, [], signal);
  const best = found.hits[0]?.relevance ?? 0;
  const near = found.hits.filter((hit) => hit.relevance >= Math.max(MIN_RELEVANCE, best / 3));
  return { chosen: near.length ? near : found.hits.slice(0, 12), close: near.length > 0 };
}

/** Says which album or tag of the filter is gone; null if none is. */
async function gone() {
  const label = query.where ? await goneLabel(query.where, map.collection) : null;
  return label && texts.gone(shared.gone[label.field](quoted(label.name)));
}

/** Add pictures to a map that shows only a sample. */
async function addMissing(ids, signal) {
  const missing = ids.filter((id) => !numbers.has(id));
  if (!missing.length || map.ids.length >= map.total) return;
  const found = await mapPictures(missing, method, map.collection, signal).catch((error) => {
    if (isAbort(error)) throw error;
    return {};
  });
  const placed = Object.entries(found);
  for (const [id] of placed) {
    numbers.set(id, map.ids.length);
    map.ids.push(id);
  }
  const xy = new Float32Array(2 * map.ids.length);
  xy.set(map.xy);
  xy.set(placed.flatMap(([, { x, y }]) => [x, y]), map.xy.length);
  map.xy = xy;
  view.add(map.ids, xy);
}

function ask(typed, done) {
  const { words, nots } = readTyped(typed, done);
  const next = { ...emptyQuery(), text: words, nots };
  const address = toAddress(next);
  if (address === toAddress(query)) return;
  query = next;
  history.replaceState(null, "", `/map${address.slice(1)}`);
  highlight();
}

let typingTimer = 0;
const updateClearButton = () => {
  $("clear").hidden = !$("words").value && toAddress(query) === toAddress(emptyQuery());
};
$("words").addEventListener("input", (event) => {
  updateClearButton();
  clearTimeout(typingTimer);
  typingTimer = setTimeout(() => ask(event.target.value, false), TYPING_PAUSE);
});
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typingTimer);
  ask($("words").value, true);
});
$("clear").addEventListener("click", () => {
  clearTimeout(typingTimer);
  $("words").value = "";
  ask("", true);
  updateClearButton();
  $("words").focus();
});
$("in").addEventListener("click", () => view.zoom(2));
$("out").addEventListener("click", () => view.zoom(0.5));
$("all").addEventListener("click", () => view.reset());
$("how").addEventListener("change", (event) => {
  method = event.target.value;
  open();
});
$("fold").addEventListener("click", () => {
  const folded = $("side").classList.toggle("folded");
  $("fold").setAttribute("aria-expanded", String(!folded));
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && card.id) closeCard();
  else if (event.key === "/" && !isTyping(event.target)) {
    event.preventDefault();
    $("words").focus();
  }
});

query = { ...fromAddress(location.search).query, target: "images", mode: "dense" };
$("words").value = toTyped(query);
updateClearButton();
$("results").href = toAddress(query);
// On small screens, start with the list folded.
if (matchMedia("(max-width: 760px)").matches) $("fold").click();
stage.classList.add("ready");
collections().then((listed) => offerCollections(listed, query.collection, chooseCollection), () => {});
open();
