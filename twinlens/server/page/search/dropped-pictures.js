// Pictures that were dropped, pasted or picked. They stay in this tab, under short tokens.

import { blake2b } from "./blake2b.js";

/** Bytes; larger pictures are sent scaled down, where the browser can decode them. */
const LARGE = 6 << 20;
/** Pixels of the longer side of what is sent then: models look at far fewer. */
const SIDE = 1600;

const held = new Map();

/**
 * Keep a picture.
 * @param {File|Blob} file
 * @returns {Promise<string>}  its token
 */
export async function keep(file) {
  const id = blake2b(new Uint8Array(await file.arrayBuffer()));
  const token = id.slice(0, 8);
  if (!held.has(token)) {
    held.set(token, { id, blob: await smaller(file), url: URL.createObjectURL(file), name: file.name ?? "" });
  }
  return token;
}

/** @returns {{id: string, blob: Blob, url: string, name: string}|undefined} */
export const picture = (token) => held.get(token);

/** Whether a dropped file can be a picture; what it really is the server finds out. */
export const mayBePicture = (file) =>
  file.type ? file.type.startsWith("image/") : /\.(heic|heif|avif|jxl|tiff?|dng|cr2|nef|arw)$/i.test(file.name);

async function smaller(file) {
  if (file.size <= LARGE) return file;
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
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
