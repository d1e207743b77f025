// Keep the results of the last queries, for going back.

import { toAddress } from "../shared/query.js";

/** Queries whose results are kept. */
const SIZE = 12;

export class ResultCache {
  #kept = new Map();

  /** The results of a query, if they are kept. */
  get(query) {
    return this.#kept.get(toAddress(query));
  }

  /** Keep results; the oldest are dropped. */
  add(results) {
    const key = toAddress(results.query);
    this.#kept.delete(key);
    this.#kept.set(key, results);
    for (const old of [...this.#kept.keys()].slice(0, -SIZE)) this.#kept.delete(old);
  }

  clear() {
    this.#kept.clear();
  }
}
