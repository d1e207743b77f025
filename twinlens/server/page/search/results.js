// The results of one query, page by page.

import { search } from "../shared/api.js";
import { picture } from "./dropped-pictures.js";
import { modeOf, scope, toBody } from "../shared/query.js";

/** Hits on a page. */
const PAGE = 60;

export class Results {
  /** @param {import("../shared/query.js").Query} query */
  constructor(query) {
    this.query = query;
    this.hits = [];
    this.nothingClose = false;
    this.complete = false;
    this.scroll = 0;
    this.begun = false;
    this.took = 0;
    this.failed = null;
    this.cursor = "";
  }

  /**
   * Ask for the next page, or the first one.
   * @param {AbortSignal} signal
   * @returns {Promise<void>}
   */
  async more(signal) {
    const { query } = this;
    const pictures = this.cursor ? [] : query.pictures.map(picture);
    // A cursor remembers the query; only a ranking by words has none, and goes on by counting.
    const body = this.cursor
      ? { cursor: this.cursor, ...scope(query) }
      : { ...toBody(query), offset: this.hits.length };
    const found = await search({ ...body, limit: PAGE }, pictures.map((one) => one.blob), signal);
    if (!this.begun) {
      this.nothingClose = found.nothing_close;
      this.took = found.took_ms;
    }
    this.begun = true;
    this.cursor = found.cursor;
    const seen = new Set(this.hits.map((hit) => hit.id));
    this.hits.push(...found.hits.filter((hit) => !seen.has(hit.id)));
    this.complete = modeOf(query) === "dense" ? !found.cursor : found.hits.length < PAGE;
  }
}
