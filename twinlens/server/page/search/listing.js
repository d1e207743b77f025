// Fetch the pictures that match a filter, newest first, where the page shows them.

import { browse } from "../shared/api.js";

/** Pictures of the first request; the grid asks for the others by their places. */
const FIRST = 60;

/** Like `Results`, of a query that looks for nothing: its hits are a list with gaps. */
export class Listing {
  /** @param {import("../shared/query.js").Query} query */
  constructor(query) {
    this.query = query;
    this.hits = [];
    this.months = [];
    /** The heights of blocks that were shown, by their places, for this width of the page. */
    this.heights = new Map();
    this.nothingClose = false;
    this.complete = true;
    this.scroll = 0;
    this.loaded = false;
    this.took = 0;
    this.failed = null;
  }

  /** How many pictures there are. */
  get total() {
    return this.hits.length;
  }

  /** Fetch the first pictures, and how many each month has. */
  async more(signal) {
    const found = await this.fetch(0, FIRST, signal);
    this.months = found.months;
    this.hits.length = found.total;
    this.loaded = true;
  }

  /**
   * Fetch the pictures at some places, unless they are here.
   * @param {number} from
   * @param {number} to  exclusive
   */
  async load(from, to, signal) {
    let first = from;
    while (first < to && this.hits[first]) first += 1;
    if (first < to) await this.fetch(first, to - first, signal);
  }

  async fetch(offset, limit, signal) {
    const found = await browse(this.query.where, offset, limit, this.query.collection, signal);
    found.items.forEach((item, number) => {
      const { relevance, score, ...hit } = item;
      this.hits[offset + number] = hit;
    });
    return found;
  }
}
