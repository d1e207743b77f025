// Read and change the clauses of a filter: the parts that "and" joins.

// The server writes this module from its parser of filters.
import { KEYWORDS } from "./filter-keywords.js";

const QUOTES = new Set(["\"", "'", "`"]);

/** The words and symbols of a filter at its top level, with their places; quoted and inner text is skipped. */
function* topWords(where) {
  let depth = 0;
  let at = 0;
  while (at < where.length) {
    const ch = where[at];
    if (QUOTES.has(ch)) {
      const end = where.indexOf(ch, at + 1);
      at = end < 0 ? where.length : end + 1;
    } else if (ch === "(" || ch === ")") {
      depth += ch === "(" ? 1 : -1;
      at += 1;
    } else {
      const [word] = /^(?:[\p{L}\p{N}\p{M}_]+|.)/su.exec(where.slice(at));
      if (depth === 0 && word.trim()) yield { word: word.toLowerCase(), at };
      at += word.length;
    }
  }
}

/**
 * Split a filter into the clauses that "and" joins. A filter with "or" at its top level is one clause.
 * @param {string} where
 * @returns {string[]}
 */
export function clauses(where) {
  const parts = [];
  let from = 0;
  let between = false;
  for (const { word, at } of topWords(where)) {
    if (word === "or" || where.startsWith("||", at)) return [where.trim()];
    if (word === "between") between = true;
    else if (word === "and" && between) between = false;
    else if (word === "and") {
      parts.push(where.slice(from, at).trim());
      from = at + word.length;
    }
  }
  parts.push(where.slice(from).trim());
  return parts.filter(Boolean);
}

/** Whether "or" joins parts of a clause, so that it needs parentheses beside "and". */
const isOr = (clause) => [...topWords(clause)].some(({ word, at }) => word === "or" || clause.startsWith("||", at));

/** Join clauses to a filter. */
export const joined = (parts) =>
  (parts.length === 1 ? parts[0] : parts.map((part) => (isOr(part) ? `(${part})` : part)).join(" and "));

/** The filter with a clause, once. */
export const withClause = (where, clause) =>
  joined([...clauses(where).filter((one) => one !== clause), clause]);

/** The filter without a clause. */
export const withoutClause = (where, clause) => joined(clauses(where).filter((one) => one !== clause)) || "";

/**
 * The clause that selects the pictures with any of some values of a field; "" for none.
 * @param {string} field
 * @param {{value: *, where: string}[]} values  as the server counts them
 */
export function anyOf(field, values) {
  if (values.length < 2) return values[0]?.where ?? "";
  const name = reference(field);
  const equal = values.every(({ value, where }) => where === `${name} == ${literal(value)}`);
  if (equal) return `${name} in (${values.map(({ value }) => literal(value)).join(", ")})`;
  return `(${values.map(({ where }) => where).join(" or ")})`;
}

/** Write the name of a field: in backquotes unless it is a plain word that means nothing else. */
export const reference = (name) =>
  (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !KEYWORDS.has(name.toLowerCase()) ? name : `\`${name}\``);

/** Write a value as a literal of the filter language. */
export function literal(value) {
  return typeof value === "string" ? `"${value.replaceAll('"', '""')}"` : String(value);
}

/** Whether a picture has an album or a tag; its names are joined as the server joins lists. */
export const hasLabel = (hit, field, name) => namesOf(hit.metadata?.[field]).includes(name);

/** The names in a list of albums or tags. */
export const namesOf = (stored) => String(stored ?? "").split(", ").filter(Boolean);
