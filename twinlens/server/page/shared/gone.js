// Tell what a query names that is no longer stored: albums, tags and pictures.

import { labels } from "./api.js";
import { clauses } from "./filters.js";

/** An album or a tag in a filter, as the server writes it. */
const LABEL = /\b(albums|tags) has "((?:[^"]|"")*)"/gu;

/**
 * The first clause of a filter with an album or a tag that no picture has.
 * @returns {Promise<{field: "albums"|"tags", name: string, clause: string}|null>}  null if there is
 *   none, or the server does not say
 */
export async function goneLabel(where, collection) {
  const known = new Map();
  for (const clause of clauses(where)) {
    for (const [, field, written] of clause.matchAll(LABEL)) {
      const name = written.replaceAll('""', '"');
      if (!known.has(field)) known.set(field, await labels(field, collection).catch(() => null));
      const stored = known.get(field);
      if (stored && !stored.some((one) => one.name === name)) return { field, name, clause };
    }
  }
  return null;
}

/** The ids of a query that an error says are not stored. */
export const goneIds = (query, error) =>
  (error.slug === "usage" ? [...query.ids, ...query.unlikes].filter((id) => error.detail.includes(id)) : []);
