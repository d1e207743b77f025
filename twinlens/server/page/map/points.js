// The points of a map as they come, and which of their pictures fit at a zoom. Pure computing.

/** Pixels between two pictures. */
export const GAP = 6;
/** Zoom levels are half an octave apart, counted from this many pixels for 1 on the map. */
const BASE = 100;
const STEP = Math.SQRT2;
const LAST = 26;

/** Level of a scale, in pixels for 1 on the map. */
export const levelOf = (scale) =>
  Math.max(0, Math.min(LAST, Math.floor(Math.log(scale / BASE) / Math.log(STEP) + 1e-6)));

/**
 * How large pictures are at a scale, in pixels: they grow slowly as one comes nearer.
 * @param {number} few  from 1, how much larger because there are few
 */
export const sizeAt = (scale, few) => Math.min(220, few * 38 * (Math.max(scale, BASE) / BASE) ** 0.24);

/** How much larger the pictures of a small collection are. */
export const fewOf = (count) => Math.max(1, Math.min(1.9, (1_500 / Math.max(1, count)) ** 0.3));

/**
 * Read a map.
 * @param {ArrayBuffer} buffer  see GET /v1/map in the API's description
 * @returns {{collection: string, method: string, total: number, ids: string[], xy: Float32Array}}
 *   xy: x and y of each point, from -1 to 1, x to the right and y upwards
 */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const said = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const xy = new Float32Array(buffer, 4 + length, 2 * said.points);
  const raw = new Uint8Array(buffer, 4 + length + 8 * said.points);
  const hex = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, "0"));
  const ids = Array.from({ length: said.points }, (_, point) => {
    let id = "";
    for (let at = 16 * point; at < 16 * point + 16; at += 1) id += hex[raw[at]];
    return id;
  });
  return { ...said, ids, xy };
}

/**
 * Which points show their picture at which zoom, so that no two overlap.
 *
 * A picture that is shown at one level is shown at all further ones, so that coming nearer only
 * adds pictures, and moving sideways changes nothing. Earlier points go first; they come in an
 * order that has nothing to do with where they are.
 */
export class Levels {
  #xy;
  #of;
  #made = -1;
  #left;
  #reach;
  #few;

  /**
   * @param {Float32Array} xy
   * @param {number} reach  no point is farther from the middle, along either axis
   */
  constructor(xy, reach) {
    this.#xy = xy;
    this.#few = fewOf(xy.length / 2);
    this.#reach = reach + 0.1;
    this.#of = new Uint8Array(xy.length / 2).fill(255);
    this.#left = Array.from(this.#of.keys());
  }

  /** @returns {Uint8Array} of each point the first level that shows it, 255 for none so far */
  upTo(level) {
    while (this.#made < level && this.#left.length) {
      this.#made += 1;
      this.#add(this.#made);
    }
    return this.#of;
  }

  #add(level) {
    const scale = BASE * STEP ** level;
    const apart = (sizeAt(scale, this.#few) + GAP) / scale;
    const columns = Math.ceil((2 * this.#reach) / apart) + 3;
    const cells = new Map();
    const column = (value) => Math.floor((value + this.#reach) / apart) + 1;
    const put = (point) => {
      const cell = column(this.#xy[2 * point]) * columns + column(this.#xy[2 * point + 1]);
      const there = cells.get(cell);
      if (there) there.push(point);
      else cells.set(cell, [point]);
    };
    for (let point = 0; point < this.#of.length; point += 1) if (this.#of[point] < level) put(point);
    const left = [];
    for (const point of this.#left) {
      const x = this.#xy[2 * point];
      const y = this.#xy[2 * point + 1];
      let free = true;
      for (let i = column(x) - 1; free && i <= column(x) + 1; i += 1) {
        for (let j = column(y) - 1; free && j <= column(y) + 1; j += 1) {
          for (const other of cells.get(i * columns + j) ?? []) {
            if (Math.abs(this.#xy[2 * other] - x) < apart && Math.abs(this.#xy[2 * other + 1] - y) < apart) {
              free = false;
              break;
            }
          }
        }
      }
      if (free) {
        this.#of[point] = level;
        put(point);
      } else {
        left.push(point);
      }
    }
    this.#left = left;
  }
}
