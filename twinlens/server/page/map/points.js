// Unpack the points of a map, and choose which pictures to show at each zoom level. Only computes.

/** Pixels between two pictures. */
export const GAP = 6;
/** Level 0 is this scale, in pixels per map unit; each level multiplies it by STEP. */
const BASE = 100;
const STEP = Math.SQRT2;
const LAST_LEVEL = 26;
/** The level of points that no level shows yet. */
const NONE = 255;

/** The zoom level of a scale. A scale is in pixels per map unit. */
export const levelOf = (scale) =>
  Math.max(0, Math.min(LAST_LEVEL, Math.floor(Math.log(scale / BASE) / Math.log(STEP) + 1e-6)));

/**
 * The size of pictures at a scale, in pixels: it grows slowly with the zoom.
 * @param {number} enlargement  from `enlargementOf`
 */
export const sizeAt = (scale, enlargement) => Math.min(220, enlargement * 38 * (Math.max(scale, BASE) / BASE) ** 0.24);

/** The factor by which pictures of a small collection are larger, from 1. */
export const enlargementOf = (count) => Math.max(1, Math.min(1.9, (1_500 / Math.max(1, count)) ** 0.3));

/**
 * Unpack a map.
 * @param {ArrayBuffer} buffer  as GET /v1/map sends it
 * @returns {{collection: string, method: string, total: number, ids: string[], xy: Float32Array}}
 *   xy: x and y of each point, from -1 to 1, x to the right and y upwards
 */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const xy = new Float32Array(buffer, 4 + length, 2 * header.points);
  const raw = new Uint8Array(buffer, 4 + length + 8 * header.points);
  const hex = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, "0"));
  const ids = Array.from({ length: header.points }, (_, point) => {
    let id = "";
    for (let at = 16 * point; at < 16 * point + 16; at += 1) id += hex[raw[at]];
    return id;
  });
  return { ...header, ids, xy };
}

/**
 * The first zoom level that shows each point's picture, chosen so that no two pictures overlap.
 *
 * A picture that one level shows, all further levels show: zooming in only adds pictures, and
 * panning changes none. Earlier points take precedence; their order does not depend on position.
 */
export class Levels {
  #xy;
  #first;
  #computed = -1;
  #hiddenPoints;
  #preferred;
  #reach;
  #enlargement;

  /**
   * @param {Float32Array} xy
   * @param {number} reach  the largest distance of a point from the middle, along either axis
   * @param {number[]} preferred  points that take precedence over all others
   */
  constructor(xy, reach, preferred = []) {
    this.#xy = xy;
    this.#enlargement = enlargementOf(xy.length / 2);
    this.#reach = reach + 0.1;
    this.#first = new Uint8Array(xy.length / 2).fill(NONE);
    this.#preferred = preferred;
    this.#placePreferred();
    this.#hiddenPoints = Array.from(this.#first.keys()).filter((point) => !preferred.includes(point));
  }

  /** How far apart two pictures must be at a level, in map units along either axis. */
  #apart(level) {
    const scale = BASE * STEP ** level;
    return (sizeAt(scale, this.#enlargement) + GAP) / scale;
  }

  /** Whether two points are nearer than that, along both axes. */
  #overlap(one, other, apart) {
    return Math.abs(this.#xy[2 * one] - this.#xy[2 * other]) < apart
      && Math.abs(this.#xy[2 * one + 1] - this.#xy[2 * other + 1]) < apart;
  }

  /** Find the first levels of the preferred points, which only each other can hide. */
  #placePreferred() {
    for (let level = 0; level <= LAST_LEVEL; level += 1) {
      for (const point of this.#preferred) {
        if (this.#first[point] < NONE) continue;
        const hides = (other) => this.#first[other] < NONE && this.#overlap(point, other, this.#apart(level));
        if (!this.#preferred.some(hides)) this.#first[point] = level;
      }
    }
  }

  /** @returns {Uint8Array}  the first level that shows each point, computed up to `level`; 255: none */
  upTo(level) {
    while (this.#computed < level && this.#hiddenPoints.length) {
      this.#computed += 1;
      this.#add(this.#computed);
    }
    return this.#first;
  }

  #add(level) {
    const apart = this.#apart(level);
    // Space that a preferred point needs at a later level.
    const later = this.#preferred.filter((point) => this.#first[point] > level && this.#first[point] < NONE);
    const columns = Math.ceil((2 * this.#reach) / apart) + 3;
    const cells = new Map();
    const column = (value) => Math.floor((value + this.#reach) / apart) + 1;
    const put = (point) => {
      const cell = column(this.#xy[2 * point]) * columns + column(this.#xy[2 * point + 1]);
      const others = cells.get(cell);
      if (others) others.push(point);
      else cells.set(cell, [point]);
    };
    for (let point = 0; point < this.#first.length; point += 1) if (this.#first[point] <= level) put(point);
    const remaining = [];
    for (const point of this.#hiddenPoints) {
      const x = this.#xy[2 * point];
      const y = this.#xy[2 * point + 1];
      let free = !later.some((other) => this.#overlap(point, other, this.#apart(this.#first[other])));
      for (let i = column(x) - 1; free && i <= column(x) + 1; i += 1) {
        for (let j = column(y) - 1; free && j <= column(y) + 1; j += 1) {
          for (const other of cells.get(i * columns + j) ?? []) {
            if (this.#overlap(point, other, apart)) {
              free = false;
              break;
            }
          }
        }
      }
      if (free) {
        this.#first[point] = level;
        put(point);
      } else {
        remaining.push(point);
      }
    }
    this.#hiddenPoints = remaining;
  }
}
