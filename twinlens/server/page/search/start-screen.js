// Show the start screen: what the collection contains, and example searches that find something.

import { searchMany, thumbnail } from "../shared/api.js";
import { count, fadingImage, h } from "../shared/dom.js";
import { GAP, justify, ratioOf, rowHeight } from "./justified-layout.js";
import { setBox, showPlaceholders } from "./tiles.js";

/** Searches for collections of every kind; those that find nothing are not shown. */
const EXAMPLES = [
  "a castle on a hill", "a cat looking at the camera", "a dog running on the grass", "the sea at sunset",
  "an animal in the snow", "people playing music", "a colourful bird", "snow-covered mountains",
  "a boat on the water", "children playing", "a plate of food", "a flower close up", "a city at night",
  "a person on a bicycle", "an old stone building", "a horse", "a car in the street", "a tall tower",
  "an insect on a flower", "a waterfall", "an aeroplane in the sky", "a football player", "a cup of coffee",
  "something under water",
];
/** Hits per example: two examples with the same first hit still show two pictures. */
const DEPTH = 3;
const MIN_RELEVANCE = 0.4;
const MAX_EXAMPLES = 14;
/** With fewer examples than this, show plain buttons. */
const MIN_EXAMPLES = 3;

/**
 * Show the start screen.
 * @param {HTMLElement} container
 * @param {object} collection  as the API describes it
 * @param {boolean} several  whether there are other collections
 * @param {(words: string) => void} onExample
 * @param {AbortSignal} signal
 */
export async function showStart(container, collection, several, onExample, signal) {
  const counts = [count(collection.images, "picture")];
  if (collection.texts) counts.push(count(collection.texts, "caption"));
  const wall = h("ul", { class: "grid examples", role: "list", "aria-label": "Examples" });
  container.replaceChildren(
    h(
      "div", { class: "hero" },
      h("h2", {}, "Describe the picture you are looking for."),
      h("p", {}, "Or drop a picture here to find similar ones. Add ", h("code", {}, "-people"), " to exclude something."),
      h("p", { class: "counts" }, `${counts.join(" and ")}${several ? ` in ${collection.name}` : ""}`),
    ),
    wall,
  );
  showPlaceholders(wall);
  let found = [];
  try {
    const { results } = await searchMany(
      { queries: EXAMPLES, limit: DEPTH, target: "images", collection: collection.name }, signal,
    );
    found = choose(results);
  } catch {
    // Show the examples without pictures; searching for one shows the error.
  }
  if (signal.aborted) return;
  if (found.length < MIN_EXAMPLES) wall.replaceWith(plainExamples(onExample));
  else showPictures(wall, found, onExample);
}

/** One picture for each example with good hits, no picture twice; the most relevant first. */
function choose(results) {
  const used = new Set();
  return results
    .map((result, at) => ({ words: EXAMPLES[at], hits: result.nothing_close ? [] : result.hits }))
    .filter(({ hits }) => hits[0]?.relevance >= MIN_RELEVANCE)
    .sort((one, other) => other.hits[0].relevance - one.hits[0].relevance)
    .flatMap(({ words, hits }) => {
      const hit = hits.find((one) => !used.has(one.id) && one.thumbnail && one.relevance >= MIN_RELEVANCE);
      if (hit) used.add(hit.id);
      return hit ? [{ words, hit }] : [];
    })
    .slice(0, MAX_EXAMPLES);
}

function showPictures(wall, found, onExample) {
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
    // Only full rows, unless there is no full row.
    let { boxes, height } = justify(ratios, { width, target, gap: GAP, complete: false });
    if (!boxes.length) ({ boxes, height } = justify(ratios, { width, target, gap: GAP, complete: true }));
    tiles.forEach((tile, at) => {
      const box = boxes[at];
      tile.hidden = !box;
      if (!box) return;
      setBox(tile, box, 0);
      if (tile.querySelector("img")) return;
      const source = thumbnail(found[at].hit.thumbnail, Math.max(box.width, box.height));
      tile.firstChild.prepend(fadingImage(source, { alt: "" }));
    });
    wall.style.height = `${height}px`;
  };
  wall.replaceChildren(...tiles);
  new ResizeObserver(arrange).observe(wall);
  arrange();
}

function plainExamples(onExample) {
  return h(
    "ul", { class: "plain-examples", role: "list", "aria-label": "Examples" },
    ...EXAMPLES.slice(0, 8).map((words) =>
      h("li", {}, h("button", { class: "quiet", type: "button", on: { click: () => onExample(words) } }, words))),
  );
}

/** Show how to add pictures to an empty database. */
export function showNothingStored(container) {
  container.replaceChildren(
    h(
      "div", { class: "message" },
      h("h2", {}, "There are no pictures here yet."),
      h("p", {}, "Add some with this command:"),
      h("pre", {}, h("code", {}, `twinlens ingest ~/Pictures --db ${location.origin}`)),
    ),
  );
}
