// Thumbnails for the map: a few are loaded at a time, those wanted last first, the oldest go.

const AT_ONCE = 8;
const KEPT = 700;

export class Thumbnails {
  #address;
  #ready;
  #images = new Map();
  #wanted = new Map();
  #loading = 0;

  /**
   * @param {(id: string, large: boolean) => string} address  where a picture's thumbnail is
   * @param {() => void} ready  told when one has come
   */
  constructor(address, ready) {
    this.#address = address;
    this.#ready = ready;
  }

  /** Begin a frame: what is asked for from now on is wanted more than what was asked before. */
  begin() {
    this.#wanted = new Map();
  }

  /**
   * A thumbnail for so many of the window's pixels; while it is loaded, a smaller one if there is one.
   * @returns {{image: HTMLImageElement, since: number}|null}  since: when it came
   */
  get(id, side) {
    const large = side * Math.min(2, devicePixelRatio || 1) > 176;
    const name = large ? `${id}+` : id;
    const known = this.#images.get(name);
    if (known) {
      this.#images.delete(name); // the latest used is the last
      this.#images.set(name, known);
      if (known.since) return known;
    } else {
      this.#wanted.set(name, { id, large });
    }
    const other = this.#images.get(large ? id : `${id}+`);
    return other?.since ? other : null;
  }

  /** Whether there is one, of whatever size. */
  has(id) {
    return Boolean(this.#images.get(id)?.since || this.#images.get(`${id}+`)?.since);
  }

  /** End a frame: load what is missing. */
  end() {
    this.#load();
  }

  #load() {
    for (const [name, { id, large }] of this.#wanted) {
      if (this.#loading >= AT_ONCE) break;
      this.#wanted.delete(name);
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
      // One that cannot be had stays a dot, and is not asked for again.
      entry.image.onload = done;
      entry.image.onerror = done;
      entry.image.decoding = "async";
      entry.image.src = this.#address(id, large);
    }
    for (const [name, entry] of this.#images) {
      if (this.#images.size <= KEPT) break;
      if (entry.since) this.#images.delete(name);
    }
  }
}
