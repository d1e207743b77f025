// Load and cache thumbnails for the map: a few at a time, for the latest frame, in an LRU cache.

import { thumbnailSize } from "../shared/api.js";

const MAX_LOADING = 8;
const CACHE_SIZE = 700;

export class Thumbnails {
  #address;
  #ready;
  #images = new Map();
  #missing = new Map();
  #loading = 0;

  /**
   * @param {(id: string, large: boolean) => string} address  the URL of a picture's thumbnail
   * @param {() => void} ready  called when a thumbnail has loaded
   */
  constructor(address, ready) {
    this.#address = address;
    this.#ready = ready;
  }

  /** Begin a frame: forget which thumbnails earlier frames still wanted. */
  begin() {
    this.#missing = new Map();
  }

  /**
   * A thumbnail for a picture of so many CSS pixels; until it has loaded, one of another size, if any.
   * @returns {{image: HTMLImageElement, since: number}|null}  since: when it
   *   had loaded
   */
  get(id, side) {
    const large = thumbnailSize(side) > 160;
    const name = large ? `${id}+` : id;
    const cached = this.#images.get(name);
    if (cached) {
      this.#images.delete(name); // the last is the most recently used
      this.#images.set(name, cached);
      if (cached.since) return cached;
    } else {
      this.#missing.set(name, { id, large });
    }
    const other = this.#images.get(large ? id : `${id}+`);
    return other?.since ? other : null;
  }

  /** Whether a thumbnail of any size has loaded. */
  has(id) {
    return Boolean(this.#images.get(id)?.since || this.#images.get(`${id}+`)?.since);
  }

  /** End a frame: load the missing thumbnails. */
  end() {
    this.#load();
  }

  #load() {
    for (const [name, { id, large }] of this.#missing) {
      if (this.#loading >= MAX_LOADING) break;
      this.#missing.delete(name);
      if (this.#images.has(name)) continue;
      const entry = { image: new Image(), since: 0 };
      this.#images.set(name, entry);
      this.#loading += 1;
      const done = () => {
        this.#loading -= 1;
        if (entry.image.naturalWidth) {
          entry.since = performance.now();
          this.#ready();
        }
        this.#load();
      };
      // A thumbnail that fails is not requested again; its picture stays a dot.
      entry.image.onload = done;
      entry.image.onerror = done;
      entry.image.decoding = "async";
      entry.image.src = this.#address(id, large);
    }
    for (const [name, entry] of this.#images) {
      if (this.#images.size <= CACHE_SIZE) break;
      if (entry.since) this.#images.delete(name);
    }
  }
}
