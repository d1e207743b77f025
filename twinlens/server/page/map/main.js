// The map's page: loads the points, lights up what is searched for, lists what is in view.

import { ApiError, collections, isAbort, onLocked, search } from "../shared/api.js";
import { createCard } from "./preview-card.js";
import { unpack } from "./points.js";
import { Thumbnails } from "./thumbnails.js";
import { MapView } from "./view.js";
import { createSignIn } from "../shared/dialogs.js";
import { count, h, isTyping } from "../shared/dom.js";
import { titleOf } from "../search/tiles.js";
import { EMPTY, describe, fromAddress, isAsking, readTyped, toAddress, toBody } from "../shared/query.js";

/** Hits that are lit up at most; those much weaker than the best are not. */
const LIT = 120;
const LEAST = 0.2;
/** Pictures in the list. */
const LISTED = 48;
/** Milliseconds before a picture that the pointer rests on is asked about. */
const REST = 120;
const TYPING = 350;
/** Milliseconds in which titles are gathered before they are asked for. */
const TOGETHER = 40;

const $ = (id) => document.getElementById(id);
const stage = $("stage");
let query = EMPTY;
let method = "pca";
let map = { ids: [], total: 0, collection: "" };
let numbers = new Map();
let hits = new Map();
let under = new AbortController();
let asked = 0;
let opening = 0;
const titles = new Map();

const pathOf = (id, what, size) => {
  const where = new URLSearchParams({ ...(size ? { size } : {}), collection: map.collection });
  return `/v1/items/${encodeURIComponent(id)}/${what}?${where}`;
};
const scope = () => ({ ...EMPTY, collection: query.collection });
const addressOf = (id) => toAddress({ ...scope(), ids: [id] }, { open: id });
const moreOf = (id) => toAddress({ ...scope(), ids: [id] });

const view = new MapView($("canvas"), $("mini"), {
  point: (point) => hover(point),
  press: (point, event) => press(point, event),
  settle: () => list(),
});
const card = createCard($("card"), {
  addressOf,
  moreOf,
  imageOf: (id) => pathOf(id, "thumbnail", 320),
  onClose: () => close(),
});
onLocked(createSignIn());

/**
 * What the server says of pictures: where they belong, and what they are called.
 * @returns {Promise<Object<string, {x: number, y: number, title: string}>>}
 */
async function tell(ids, signal) {
  const response = await fetch("/v1/map/pictures", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ids, collection: map.collection, method }),
    signal,
  });
  return response.status === 200 ? (await response.json()).pictures : {};
}

let together = null;

/** A picture's title, asked for once, with those that are wanted at the same time. */
function titleFor(id) {
  if (hits.has(id)) return Promise.resolve(titleOf(hits.get(id)));
  if (!titles.has(id)) {
    if (!together) {
      const ids = [];
      together = { ids };
      together.told = new Promise((resolve) => setTimeout(resolve, TOGETHER)).then(() => {
        together = null;
        return tell(ids);
      }).catch(() => ({}));
    }
    together.ids.push(id);
    titles.set(id, together.told.then((told) => told[id]?.title ?? ""));
    if (titles.size > 5_000) titles.delete(titles.keys().next().value);
  }
  return titles.get(id);
}

function hover(point) {
  clearTimeout(asked);
  const card_ = $("card");
  if (!card_.hidden && card_.classList.contains("pinned")) return;
  view.focus(point);
  if (point < 0) {
    card.hide();
    return;
  }
  const id = map.ids[point];
  if (card.id !== id) card.hide();
  asked = setTimeout(() => near(point, false), REST);
}

async function near(point, pinned) {
  const id = map.ids[point];
  view.focus(point);
  const relevance = hits.get(id)?.relevance;
  card.show(id, { title: "", relevance }, { place: view.place(point), pinned });
  const title = await titleFor(id);
  if (card.id === id) card.show(id, { title, relevance }, { place: view.place(point), pinned });
}

function press(point, event) {
  clearTimeout(asked);
  if (point < 0) close();
  else if (event.pointerType === "mouse") location.assign(addressOf(map.ids[point]));
  else near(point, true);
}

function close() {
  card.hide();
  view.focus(-1);
}

// The list of what is in view: the same pictures for those who do not use the map by hand.
function list() {
  const { count: all, points } = view.inView(LISTED);
  say(all);
  const place = $("list");
  const had = document.activeElement?.dataset?.id;
  const there = new Map([...place.children].map((one) => [one.dataset.id, one]));
  const wanted = points.map((point) => map.ids[point]);
  // What somebody reads is not taken away under them.
  if (had && !wanted.includes(had)) wanted.unshift(had);
  place.replaceChildren(...wanted.map((id) => there.get(id) ?? entry(id)));
  for (const [id, element] of there) if (!wanted.includes(id)) seen.unobserve(element);
  if (had) place.querySelector(`a[data-id="${had}"]`)?.focus({ preventScroll: true });
  for (const one of place.children) one.classList.toggle("lit", hits.has(one.dataset.id));
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    const link = target.firstChild;
    const { id } = target.dataset;
    const image = h("img", { alt: "", decoding: "async", src: pathOf(id, "thumbnail", 160) });
    image.addEventListener("load", () => image.classList.add("there"), { once: true });
    link.querySelector(".map-list-picture").append(image);
    titleFor(id).then((title) => {
      link.classList.remove("waiting");
      if (title) link.querySelector(".map-list-title").textContent = title;
    });
  }
});

function entry(id) {
  const link = h(
    "a",
    {
      class: "waiting", href: addressOf(id), data: { id },
      on: {
        focus: () => link.matches(":focus-visible") && point(id),
        blur: () => card.id === id && close(),
        pointerenter: () => view.focus(numbers.get(id) ?? -1),
        pointerleave: () => view.focus(-1),
      },
    },
    h("span", { class: "map-list-picture" }),
    h("span", { class: "map-list-title" }, "A picture"),
  );
  const element = h("li", { data: { id } }, link);
  seen.observe(element);
  return element;
}

function point(id) {
  const number = numbers.get(id);
  if (number !== undefined) near(number, false);
}

function say(inView) {
  const of = map.ids.length < map.total ? ` of ${count(map.total, "picture")}, a sample on the map` : "";
  const lit = hits.size ? ` · ${hits.size.toLocaleString("en")} lit up for ${describe(query)}` : "";
  $("status").textContent = map.ids.length ? `${count(inView, "picture")} in view${of}${lit}` : "";
  $("side-title").textContent = `In view: ${inView.toLocaleString("en")}`;
}

function message(title, text) {
  $("message").replaceChildren(h("h2", {}, title), h("p", {}, text));
  $("message").hidden = !title;
}

/** Get the points; while the server draws them it is asked again. */
async function load() {
  const where = new URLSearchParams({ method });
  if (query.collection) where.set("collection", query.collection);
  for (;;) {
    const response = await fetch(`/v1/map?${where}`);
    if (response.status === 202) {
      $("status").textContent = "Drawing the map…";
      await new Promise((resolve) => setTimeout(resolve, 1_000 * (Number(response.headers.get("Retry-After")) || 1)));
      continue;
    }
    if (!response.ok) {
      const said = await response.json().catch(() => ({}));
      throw new ApiError({ title: `The server answered ${response.status}`, detail: "", ...said });
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
    // Asks for a key where one is needed, which the map itself cannot.
    await collections();
    const loaded = await load();
    if (mine !== opening) return; // another one was chosen meanwhile
    map = loaded;
  } catch (error) {
    if (mine !== opening) return;
    $("status").textContent = "";
    message("The map cannot be shown.", error.message);
    return;
  }
  numbers = new Map(map.ids.map((id, number) => [id, number]));
  titles.clear();
  view.thumbnails = new Thumbnails((id, large) => pathOf(id, "thumbnail", large ? 320 : 160), () => view.draw());
  view.show(map.ids, map.xy);
  if (!map.ids.length) message("There is nothing to show yet.", "Ingest some pictures, and they will stand here.");
  if (isAsking(query)) await light();
}

/** Light up what the query finds, and fly there. */
async function light() {
  under.abort();
  under = new AbortController();
  const { signal } = under;
  close();
  document.title = isAsking(query) ? `${describe(query)} · Map · twinlens` : "Map · twinlens";
  $("results").href = toAddress(query);
  if (!isAsking(query)) {
    hits = new Map();
    view.light([]);
    list();
    return;
  }
  try {
    const found = await search({ ...toBody(query), target: "images", limit: LIT, collection: map.collection }, [], signal);
    const best = found.hits[0]?.relevance ?? 0;
    const near = found.hits.filter((hit) => hit.relevance >= Math.max(LEAST, best / 3));
    const chosen = near.length ? near : found.hits.slice(0, 12);
    await bring(chosen.map((hit) => hit.id), signal);
    hits = new Map(chosen.filter((hit) => numbers.has(hit.id)).map((hit) => [hit.id, hit]));
    const points = [...hits.keys()].map((id) => numbers.get(id));
    view.light(points);
    view.flyTo(points.slice(0, 24));
    list();
    if (!points.length) $("status").textContent = `Nothing on the map for ${describe(query)}`;
    else if (!near.length) $("status").textContent = `Nothing close to ${describe(query)}: the nearest are lit up`;
  } catch (error) {
    if (!isAbort(error)) $("status").textContent = error.message;
  }
}

/** Put pictures on the map that are not on it, where it shows a sample only. */
async function bring(ids, signal) {
  const missing = ids.filter((id) => !numbers.has(id));
  if (!missing.length || map.ids.length >= map.total) return;
  const placed = Object.entries(await tell(missing, signal));
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
  const next = { ...scope(), text: words, nots };
  const address = toAddress(next);
  if (address === toAddress(query)) return;
  query = next;
  history.replaceState(null, "", `/map${address.slice(1)}`);
  light();
}

let typing = 0;
const clearable = () => {
  $("clear").hidden = !$("words").value;
};
$("words").addEventListener("input", (event) => {
  clearable();
  clearTimeout(typing);
  typing = setTimeout(() => ask(event.target.value, false), TYPING);
});
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  ask($("words").value, true);
});
$("clear").addEventListener("click", () => {
  clearTimeout(typing);
  $("words").value = "";
  clearable();
  ask("", true);
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
  const open_ = $("side").classList.toggle("folded");
  $("fold").setAttribute("aria-expanded", String(!open_));
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && card.id) close();
  else if (event.key === "/" && !isTyping(event.target)) {
    event.preventDefault();
    $("words").focus();
  }
});

query = { ...fromAddress(location.search).query, target: "images", mode: "dense" };
$("words").value = [query.text, ...query.nots.map((one) => (/\s/.test(one) ? `-"${one}"` : `-${one}`))].filter(Boolean).join(" ");
clearable();
$("results").href = toAddress(query);
// Where there is little room the map comes first.
if (matchMedia("(max-width: 760px)").matches) $("fold").click();
stage.classList.add("ready");
open();
