// Before anything is asked: what the collection holds, and questions that it can answer.

import { searchMany, thumbnail } from "../shared/api.js";
import { count, h } from "../shared/dom.js";
import { ghosts, setOut } from "./tiles.js";
import { justify, ratioOf, rowHeight } from "./justified-layout.js";

/** What people ask of collections of every kind; those that find nothing here are not shown. */
const EXAMPLES = [
  "a castle on a hill", "a cat looking at the camera", "a dog running on the grass", "the sea at sunset",
  "an animal in the snow", "people playing music", "a colourful bird", "snow-covered mountains",
  "a boat on the water", "children playing", "a plate of food", "a flower close up", "a city at night",
  "a person on a bicycle", "an old stone building", "a horse", "a car in the street", "a tall tower",
  "an insect on a flower", "a waterfall", "an aeroplane in the sky", "a football player", "a cup of coffee",
  "something under water",
];
/** Hits of each that are looked at: two questions with one answer show two pictures. */
const DEPTH = 3;
const LEAST = 0.4;
const MOST = 14;
const ENOUGH = 3;
const GAP = 6;

/**
 * Show the start.
 * @param {HTMLElement} place
 * @param {object} served  the collection, as the API describes it
 * @param {boolean} several  whether there are other collections
 * @param {(words: string) => void} onExample
 * @param {AbortSignal} signal
 */
export async function showStart(place, served, several, onExample, signal) {
  const counts = [count(served.images, "picture")];
  if (served.texts) counts.push(count(served.texts, "caption"));
  const wall = h("ul", { class: "grid examples", role: "list", "aria-label": "Examples" });
  place.replaceChildren(
    h(
      "div", { class: "hero" },
      h("h2", {}, "Say what you remember of a picture."),
      h("p", {}, "Or drop one here to find others like it. Add ", h("code", {}, "-people"), " for what should not be in it."),
      h("p", { class: "counts" }, `${counts.join(" and ")}${several ? ` in ${served.name}` : ""}`),
    ),
    wall,
  );
  ghosts(wall);
  let found = [];
  try {
    const { results } = await searchMany(
      { queries: EXAMPLES, limit: DEPTH, target: "images", collection: served.name }, signal,
    );
    found = choose(results);
  } catch {
    // The questions are shown without pictures then; asking one tells what is wrong.
  }
  if (signal.aborted) return;
  if (found.length < ENOUGH) wall.replaceWith(plain(onExample));
  else paint(wall, found, onExample);
}

/** One picture for each question that is answered well, no picture twice; the surest first. */
function choose(results) {
  const used = new Set();
  return results
    .map((result, at) => ({ words: EXAMPLES[at], hits: result.nothing_close ? [] : result.hits }))
    .filter(({ hits }) => hits[0]?.relevance >= LEAST)
    .sort((one, other) => other.hits[0].relevance - one.hits[0].relevance)
    .flatMap(({ words, hits }) => {
      const hit = hits.find((one) => !used.has(one.id) && one.thumbnail && one.relevance >= LEAST);
      if (hit) used.add(hit.id);
      return hit ? [{ words, hit }] : [];
    })
    .slice(0, MOST);
}

function paint(wall, found, onExample) {
  const tiles = found.map(({ words, hit }) =>
    h(
      "li", { class: "tile example" },
      h(
        "button", { class: "tile-link", type: "button", on: { click: () => onExample(words) } },
        h("span", { class: "tile-words" }, words),
      ),
    ));
  const arrange = () => {
    const width = wall.clientWidth;
    if (!width) return;
    const ratios = found.map(({ hit }) => ratioOf(hit.metadata));
    const target = rowHeight(width) * (width < 520 ? 1 : 1.05);
    // Only rows that are full: an odd picture below them looks forgotten.
    let { boxes, height } = justify(ratios, { width, target, gap: GAP, complete: false });
    if (!boxes.length) ({ boxes, height } = justify(ratios, { width, target, gap: GAP, complete: true }));
    tiles.forEach((tile, at) => {
      const box = boxes[at];
      tile.hidden = !box;
      if (!box) return;
      setOut(tile, box, 0);
      if (tile.querySelector("img")) return;
      const image = h("img", { alt: "", decoding: "async" });
      image.addEventListener("load", () => image.classList.add("there"), { once: true });
      image.src = thumbnail(found[at].hit.thumbnail, Math.max(box.width, box.height));
      tile.firstChild.prepend(image);
    });
    wall.style.height = `${height}px`;
  };
  wall.replaceChildren(...tiles);
  new ResizeObserver(arrange).observe(wall);
  arrange();
}

function plain(onExample) {
  return h(
    "ul", { class: "plain-examples", role: "list", "aria-label": "Examples" },
    ...EXAMPLES.slice(0, 8).map((words) =>
      h("li", {}, h("button", { class: "quiet", type: "button", on: { click: () => onExample(words) } }, words))),
  );
}

/** Show that there is nothing to search yet. */
export function showNothingStored(place) {
  place.replaceChildren(
    h(
      "div", { class: "message" },
      h("h2", {}, "There are no pictures here yet."),
      h("p", {}, "Put some in, and this page can find them:"),
      h("pre", {}, h("code", {}, `twinlens ingest ~/Pictures --db ${location.origin}`)),
    ),
  );
}
