// Suggest how a filter can continue, from its beginning and the collection's fields.

import { reference } from "../shared/filters.js";
import { texts } from "../texts/en/search.js";

const WORD = /[^\s()=!<>,"'`]*$/u;
/** Texts and names in quotes that are closed. */
const CLOSED = /"(?:[^"]|"")*"|'(?:[^']|'')*'|`[^`]*`/gu;
const TOKEN = /"(?:[^"]|"")*"|'(?:[^']|'')*'|`[^`]*`|[()=!<>,]+|[^\s()=!<>,"'`]+/gu;
const TEXTS = ["startswith", "endswith", "contains", "has", "==", "!=", "in ("];
const NUMBERS = ["==", "!=", ">=", "<=", ">", "<", "between", "in ("];
const OPERATORS = {
  text: TEXTS,
  path: TEXTS.filter((operator) => operator !== "has"),
  list: ["has"],
  boolean: ["==", "!="],
  integer: NUMBERS,
  number: NUMBERS,
  date: ["==", ">=", "<=", ">", "<", "between"],
  mixed: [...NUMBERS, "startswith", "contains", "has"],
};
/** Operators that a value follows. */
const BEFORE_VALUE = new Set([
  "=", "==", "!=", ">=", "<=", ">", "<", "startswith", "endswith", "contains", "has", "between", "in",
]);
const NULL_CHECKS = ["is known", "is unknown"];
const MAX_SUGGESTIONS = 12;

/**
 * Suggest words for the caret's position.
 * @param {string} text  the filter up to the caret
 * @param {Record<string, string>} fields  types by name
 * @returns {{from: number, options: {text: string, hint: string}[]}}  options: what may replace the
 *   word that begins at `from`
 */
export function suggest(text, fields) {
  const [open] = text.replace(CLOSED, (one) => " ".repeat(one.length)).matchAll(/["'`]/gu);
  const word = open ? text.slice(open.index) : (text.match(WORD) ?? [""])[0];
  const from = text.length - word.length;
  if (open && open[0] !== "`") return { from, options: [] };
  const tokens = text.slice(0, from).match(TOKEN) ?? [];
  const plain = (one) => one.replaceAll("`", "").toLowerCase();
  const fits = (option) => plain(option.text).startsWith(plain(word)) && option.text.trim() !== word;
  const options = optionsAfter(tokens, fields).filter(fits);
  return { from, options: options.slice(0, MAX_SUGGESTIONS) };
}

function optionsAfter(tokens, fields) {
  const last = tokens.at(-1)?.toLowerCase();
  const before = tokens.at(-2)?.toLowerCase();
  const isField = (token) => token !== undefined && Object.hasOwn(fields, token.replaceAll("`", ""));
  if (last === undefined || ["and", "or", "not"].includes(last) || /^\(+$/.test(last) && before !== "in") {
    if (last === "and" && tokens.at(-3)?.toLowerCase() === "between") return [];
    return Object.entries(fields).map(([name, type]) => ({ text: `${reference(name)} `, hint: texts.filter.types[type] ?? type }));
  }
  if (isField(tokens.at(-1)) && !BEFORE_VALUE.has(before)) {
    const operators = OPERATORS[fields[tokens.at(-1).replaceAll("`", "")]] ?? TEXTS;
    return [...operators, ...NULL_CHECKS].map((operator) => ({ text: operator.endsWith("(") ? operator : `${operator} `, hint: "" }));
  }
  if (BEFORE_VALUE.has(last)) {
    const type = fields[before?.replaceAll("`", "")] ?? fields[tokens.at(-2)];
    return type === "boolean" ? [{ text: "true ", hint: "" }, { text: "false ", hint: "" }] : [];
  }
  const valued = BEFORE_VALUE.has(before) && before !== "between" && before !== "in";
  const closed = last.endsWith(")") || ["known", "unknown"].includes(last);
  return valued || closed ? [{ text: "and ", hint: "" }, { text: "or ", hint: "" }] : [];
}
