// Compare a picture and its captions with words, by the relevance that all results have.

import { search } from "../shared/api.js";
import { literal } from "../shared/filters.js";
import { texts } from "../texts/en/shared.js";

/** Captions that are compared with words. */
const MAX_CAPTIONS = 8;

/**
 * How well a picture fits words, as a hit.
 * @param {string} id  of the picture
 * @throws {Error} the picture is no longer stored, or what `search` throws
 */
export async function pictureFor(id, words, collection, signal) {
  const where = `id == ${literal(id)}`;
  const { hits } = await search({ query: [words], target: "images", where, limit: 1, collection }, [], signal);
  if (!hits.length) throw new Error(texts.gone.picture);
  return hits[0];
}

/** How well the captions of a picture fit words: hits, the nearest first. */
export async function captionsFor(id, words, collection, signal) {
  const where = `image_id == ${literal(id)}`;
  const asked = { query: [words], target: "texts", where, limit: MAX_CAPTIONS, collection };
  return (await search(asked, [], signal)).hits;
}
