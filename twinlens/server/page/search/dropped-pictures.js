// Keep pictures that were dropped, pasted or chosen. They stay in this tab, under short tokens.

import { withOne, without } from "../shared/query.js";
import { blake2b } from "./blake2b.js";

/** Larger files, in bytes, are sent scaled down if the browser can decode them. */
const MAX_BYTES = 6 << 20;
/** Longer side of scaled pictures, in pixels: models see far fewer. */
const MAX_SIDE = 1600;

const kept = new Map();

/**
 * Keep a picture.
 * @param {File|Blob} file
 * @returns {Promise<string>}  its token
 */
export async function keep(file) {
  const id = blake2b(new Uint8Array(await file.arrayBuffer()));
  const token = id.slice(0, 8);
  if (!kept.has(token)) {
    kept.set(token, { id, blob: await shrink(file), url: URL.createObjectURL(file), name: file.name ?? "" });
  }
  return token;
}

/** @returns {{id: string, blob: Blob, url: string, name: string}|undefined} */
export const picture = (token) => kept.get(token);

/** The query without dropped pictures that this tab does not have. */
export const withKnownPictures = (query) => ({ ...query, pictures: query.pictures.filter((token) => kept.has(token)) });

/** The query with the ids of dropped pictures that are among the hits: such a query can be shared. */
export function withStoredIds(query, hits) {
  const stored = new Set(hits.map((hit) => hit.image_id));
  let next = query;
  for (const token of query.pictures) {
    const { id } = kept.get(token) ?? {};
    if (id && stored.has(id)) next = withOne(without(next, "pictures", token), "ids", id);
  }
  return next;
}

/** Whether a file may be a picture, by its type or name. The server checks the content. */
export const mayBePicture = (file) =>
  file.type ? file.type.startsWith("image/") : /\.(heic|heif|avif|jxl|tiff?|dng|cr2|nef|arw)$/i.test(file.name);

async function shrink(file) {
  if (file.size <= MAX_BYTES) return file;
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = new OffscreenCanvas(
      Math.max(1, Math.round(bitmap.width * scale)),
      Math.max(1, Math.round(bitmap.height * scale)),
    );
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  } catch {
    return file;
  }
}
