// Call the routes of the review.

import { post, send } from "../shared/write-api.js";

/** @returns {Promise<{items: object[], next: string}>}  a page of flagged pictures */
export async function reviewPage(which, after, collection) {
  const response = await send(`/v1/review?${new URLSearchParams({ state: which, after, collection })}`);
  return response.json();
}

/** @returns {Promise<{collections: object[], default: string}>}  all collections */
export const listCollections = async () => (await send("/v1/collections")).json();

/** Release a picture, or hold it back. */
export const decide = (id, decision, collection) =>
  post("/v1/review", { ids: [id], decision, ...(collection ? { collection } : {}) });

/** The URL of a blob with a thumbnail: an image element would send no key. */
export async function thumbnailBlob(path) {
  const response = await send(`${path}&size=320`, { headers: { Accept: "image/webp,image/jpeg" } });
  return URL.createObjectURL(await response.blob());
}
