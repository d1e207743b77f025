// Fetch the results of one query, page by page.

import { search } from "../shared/api.js";
import { picture } from "./dropped-pictures.js";
import { modeOf, scope, toBody } from "../shared/query.js";

/** Hits per page. */
const PAGE_SIZE = 60;

export class Results {
  /** @param {import("../shared/query.js").Query} query */
  constructor(query) {
    this.query = query;
    this.hits = [];
    this.nothingClose = false;
    this.complete = false;
    this.scroll = 0;
    this.loaded = false;
    this.took = 0;
    this.failed = null;
    this.cursor = "";
  }

  /**
   * Fetch the first or next page.
   * @param {AbortSignal} signal
   * @returns {Promise<void>}
   */
  async more(signal) {
    const { query } = this;
    const pictures = this.cursor ? [] : query.pictures.map(picture);
    // A cursor stands for the query. Rankings by words have no cursor: use an offset.
    const body = this.cursor
      ? { cursor: this.cursor, ...scope(query) }
      : { ...toBody(query), offset: this.hits.length };
    const found = await search({ ...body, limit: PAGE_SIZE, with_cursor: true }, pictures.map((one) => one.blob), signal);
    if (!this.loaded) {
      this.nothingClose = found.nothing_close;
      this.took = found.took_ms;
    }
    this.loaded = true;
    this.cursor = found.cursor;
    const seen = new Set(this.hits.map((hit) => hit.id));
    this.hits.push(...found.hits.filter((hit) => !seen.has(hit.id)));
    this.complete = modeOf(query) === "dense" ? !found.cursor : found.hits.length < PAGE_SIZE;
  }
}
