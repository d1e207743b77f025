// Show the start screen: what the collection contains, saved searches, and examples that find something.

import { examples, thumbnail } from "../shared/api.js";
import { fadingImage, h, isTouch } from "../shared/dom.js";
import { texts } from "../texts/en/search.js";
import { GAP, justify, ratioOf, rowHeight } from "./justified-layout.js";
import { setBox, showPlaceholders } from "./tiles.js";

/** Searches to offer where no example has a picture: in English, which every model understands. */
const PLAIN = [
  "a castle on a hill", "a cat looking at the camera", "a dog running on the grass", "the sea at sunset",
  "an animal in the snow", "people playing music", "a colourful bird", "snow-covered mountains",
];
/** With fewer examples than this, show plain buttons. */
const MIN_EXAMPLES = 3;

/** The first examples. The server has made the browser ask for them before this script ran. */
let early = location.search ? null : examples("").catch(() => null);

/**
 * Show the start screen.
 * @param {HTMLElement} container
 * @param {object} collection  as the API describes it
 * @param {HTMLElement} saved  the saved searches
 * @param {boolean} several  whether there are other collections
 * @param {boolean} isDefault  whether it is the default one, whose examples the browser loads early
 * @param {(words: string) => void} onExample
 * @param {AbortSignal} signal
 */
export async function showStart(container, collection, saved, several, isDefault, onExample, signal) {
  const { images, texts: captions, name } = collection;
  const wall = h("ul", { class: "grid examples", role: "list", "aria-label": texts.start.examples });
  container.replaceChildren(
    h(
      "div", { class: "hero" },
      h("h2", {}, texts.start.title),
      h("p", {}, ...texts.start.ways(isTouch, h("code", {}, "-people"))),
      h("p", { class: "counts" }, texts.start.counts(images, captions, several ? name : "")),
    ),
    saved,
    wall,
  );
  showPlaceholders(wall);
  let found = [];
  try {
    found = (isDefault && await early) || await examples(isDefault ? "" : collection.name, signal);
    early = null;
  } catch {
    // Show the examples without pictures; searching for one shows the error.
  }
  if (signal.aborted) return;
  if (found.length < MIN_EXAMPLES) wall.replaceWith(plainExamples(onExample));
  else showPictures(wall, found, onExample);
}

function showPictures(wall, found, onExample) {
  const tiles = found.map(({ words }) =>
    h(
      "li", { class: "tile example" },
      h(
        "button", { class: "tile-link", type: "button", on: { click: () => onExample(words) } },
        h("span", { class: "tile-words", lang: "en" }, words),
      ),
    ));
  const arrange = () => {
    const width = wall.clientWidth;
    if (!width) return;
    const ratios = found.map(ratioOf);
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
      const source = thumbnail(found[at].thumbnail, Math.max(box.width, box.height));
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
    "ul", { class: "plain-examples", role: "list", "aria-label": texts.start.examples },
    ...PLAIN.map((words) =>
      h("li", {}, h("button", { class: "quiet", type: "button", lang: "en", on: { click: () => onExample(words) } }, words))),
  );
}

/** Show how to add pictures to an empty database. */
export function showNothingStored(container) {
  container.replaceChildren(
    h(
      "div", { class: "message" },
      h("h2", {}, texts.start.nothingStored),
      h("p", {}, texts.start.command),
      h("pre", {}, h("code", {}, `twinlens ingest ~/Pictures --db ${location.origin}`)),
    ),
  );
}
