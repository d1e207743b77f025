// Read a query from typed text or from the address, and write it to the address or an API request.

import { texts } from "../texts/en/shared.js";
import { quoted } from "./bidi.js";

/**
 * @typedef {object} Query  never changed, only replaced
 * @property {string} text  words to look for
 * @property {string[]} nots  words to exclude
 * @property {string[]} ids  ids of stored pictures to look for
 * @property {string[]} pictures  tokens of dropped pictures to look for
 * @property {string[]} unlikes  ids of stored pictures to move away from
 * @property {"images"|"texts"} target
 * @property {"dense"|"text"|"hybrid"} mode
 * @property {string} where  a filter
 * @property {string} collection  "" means the server's default
 */

/** @type {Query} */
export const EMPTY = Object.freeze({
  text: "", nots: [], ids: [], pictures: [], unlikes: [],
  target: "images", mode: "dense", where: "", collection: "",
});
/** Where the session storage has the address of the picture that was opened on the map. */
export const OPENED_ON_MAP = "twinlens-opened-on-map";
/** Entries of each list; the server accepts 64 parts and 8 files. */
const MAX_PARTS = 48;
const MAX_PICTURES = 8;

const LISTS = { nots: "not", ids: "id", pictures: "picture", unlikes: "unlike" };
// -people and -"blue sky", at the beginning or after a space. -5 does not count.
const MINUS_TERM = /(^|\s)-(?:"([^"]+)"|(\p{L}[^\s"]*))(?=\s|$)/gu;

/**
 * Split typed text into words and minus-terms.
 * @param {string} typed
 * @param {boolean} done  whether the user has finished; until then, a term at the very end may be incomplete
 * @returns {{words: string, nots: string[], rest: string}}  words: what to look for; rest: what
 *   stays in the text field
 */
export function readTyped(typed, done) {
  const nots = [];
  let open = "";
  const rest = typed.replace(MINUS_TERM, (whole, before, quoted, bare, at) => {
    if (bare && !done && at + whole.length === typed.length) {
      open = whole;
      return whole;
    }
    nots.push((quoted ?? bare).trim());
    return before ? " " : "";
  });
  let words = open ? rest.slice(0, rest.length - open.length) : rest;
  // Ignore a quoted term that is not closed yet.
  words = words.replace(/(^|\s)-"[^"]*$/u, "").replace(/(^|\s)-$/u, "");
  return {
    words: words.replace(/\s+/gu, " ").trim(),
    nots: nots.filter(Boolean),
    rest: nots.length ? rest.replace(/\s{2,}/gu, " ").trimStart() : rest,
  };
}

/** The inverse of `readTyped`: the words and minus-terms as text. */
export const toTyped = (query) =>
  [query.text, ...query.nots.map((term) => (/\s/.test(term) ? `-"${term}"` : `-${term}`))].filter(Boolean).join(" ");

/** Whether there is something to look for. */
export const isAsking = (query) =>
  Boolean(query.text || query.ids.length || query.pictures.length);

/** Whether the search box is empty. */
export const isBlank = (query) => !isAsking(query) && !query.nots.length && !query.unlikes.length;

/** Whether the query lists pictures: it looks for nothing, and excludes nothing. */
export const isListing = (query) => isBlank(query) && query.target === "images";

/** Whether the query is the page's start: nothing at all. */
export const isStart = (query) => isListing(query) && !query.where;

/** The query with a value added to one of its lists. */
export function withOne(query, list, value) {
  const limit = list === "pictures" ? MAX_PICTURES : MAX_PARTS;
  const kept = query[list].filter((one) => one !== value);
  return { ...query, [list]: [...kept, value].slice(-limit) };
}

/** The query with a value removed from one of its lists. */
export const without = (query, list, value) =>
  ({ ...query, [list]: query[list].filter((one) => one !== value) });

/** The mode to search in: a query without words can only be dense. */
export const modeOf = (query) => (query.text ? query.mode : "dense");

/** The query as an address: "/?q=a+dog&not=people". */
export function toAddress(query, { open = "" } = {}) {
  const fields = new URLSearchParams();
  if (query.text) fields.set("q", query.text);
  for (const [list, name] of Object.entries(LISTS)) {
    for (const value of query[list]) fields.append(name, value);
  }
  if (query.target !== "images") fields.set("in", query.target);
  if (query.mode !== "dense") fields.set("mode", query.mode);
  if (query.where) fields.set("where", query.where);
  if (query.collection) fields.set("collection", query.collection);
  if (open) fields.set("open", open);
  const written = fields.toString();
  return written ? `/?${written}` : "/";
}

/** The query of an address, without its invalid parts. */
export function fromAddress(search) {
  const fields = new URLSearchParams(search);
  const lists = Object.fromEntries(
    Object.entries(LISTS).map(([list, name]) => [list, [...new Set(fields.getAll(name))].slice(0, MAX_PARTS)]),
  );
  const mode = fields.get("mode");
  // A link written by hand may have minus-terms in its words.
  const { words, nots } = readTyped(fields.get("q") ?? "", true);
  return {
    query: {
      ...EMPTY,
      ...lists,
      text: words,
      nots: [...new Set([...lists.nots, ...nots])],
      target: fields.get("in") === "texts" ? "texts" : "images",
      mode: mode === "text" || mode === "hybrid" ? mode : "dense",
      where: fields.get("where") ?? "",
      collection: fields.get("collection") ?? "",
    },
    open: fields.get("open") ?? "",
  };
}

/** The query as the body of an API request, without limit and offset. */
export function toBody(query) {
  const parts = [
    query.text,
    ...query.pictures.map((_, number) => ({ image: { file: number } })),
    ...query.ids.map((id) => ({ id })),
    ...query.nots.map((words) => ({ not: words })),
  ];
  return { query: parts.filter(Boolean), unlike: query.unlikes, mode: modeOf(query), ...scope(query) };
}

/** A name as the server stores it, with single spaces. */
export const oneSpaced = (name) => name.normalize("NFC").replace(/\s+/gu, " ").trim();

/** Whether the query can be saved: it finds or lists something, without dropped pictures. */
export const canBeSaved = (query) =>
  !query.pictures.length && (isAsking(query) || (isListing(query) && Boolean(query.where)));

/** The query as the server saves it: the body of an API request, without its collection. */
export function toSaved(query) {
  const { collection, ...search } = toBody(query);
  return search;
}

/**
 * The query of a saved search.
 * @param {object} search  as the API describes it
 * @param {string} collection
 * @returns {{query: Query, exact: boolean}}  exact: the search has nothing that the page cannot express
 */
export function fromSaved(search, collection) {
  const { query: parts = [], where = "", mode = "dense", target = "images", unlike = [], like = [], limit, ...others } = search;
  const words = [];
  const nots = [];
  const ids = [...like];
  const unlikes = [...unlike];
  let exact = !like.length && !Object.keys(others).length;
  for (const part of parts) {
    const excluded = typeof part === "object" && "not" in part;
    const plain = excluded ? part.not : part;
    const text = typeof plain === "string" ? plain : plain.text;
    if (part.weight !== undefined || plain.weight !== undefined || (excluded && text === undefined)) exact = false;
    if (text !== undefined) (excluded ? nots : words).push(text);
    else (excluded ? unlikes : ids).push(plain.id);
  }
  if (words.length > 1) exact = false;
  return { query: { ...EMPTY, text: words.join(" "), nots, ids, unlikes, where, mode, target, collection }, exact };
}

/** The part of the body that requests for further pages need, too. */
export function scope(query) {
  return {
    target: query.target,
    where: query.where,
    ...(query.collection ? { collection: query.collection } : {}),
  };
}

/** Describe the query in a few words, for the window's title and messages. */
export function describe(query) {
  const pictures = query.ids.length + query.pictures.length;
  const words = query.text && texts.query.words(quoted(query.text));
  const these = pictures > 0 && texts.query.pictures(pictures);
  const asked = words && these ? texts.query.both(words, these) : words || these || "";
  return query.nots.length ? texts.query.without(asked, query.nots.map(quoted).join(", ")) : asked;
}
