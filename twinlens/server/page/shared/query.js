// What is asked: how it is read from the box, kept in the address, and sent. Pure, no elements.

/**
 * @typedef {object} Query  never changed, only replaced
 * @property {string} text  words to look for
 * @property {string[]} nots  words for what should not be there
 * @property {string[]} ids  stored pictures to look for
 * @property {string[]} pictures  dropped pictures to look for, by their token
 * @property {string[]} unlikes  stored pictures that were wrong answers
 * @property {"images"|"texts"} target
 * @property {"dense"|"text"|"hybrid"} mode
 * @property {string} where  a filter
 * @property {string} collection  "" for the server's default
 */

/** @type {Query} */
export const EMPTY = Object.freeze({
  text: "", nots: [], ids: [], pictures: [], unlikes: [],
  target: "images", mode: "dense", where: "", collection: "",
});
/** Parts that are not words; the server takes 64, and 8 files. */
const MAX_PARTS = 48;
const MAX_PICTURES = 8;

const LISTS = { nots: "not", ids: "id", pictures: "picture", unlikes: "unlike" };
// "-people" and -"blue sky", at the beginning or after a space; "-5" is no such term.
const TERM = /(^|\s)-(?:"([^"]+)"|(\p{L}[^\s"]*))(?=\s|$)/gu;

/**
 * Take the minus-terms out of what was typed.
 * @param {string} typed
 * @param {boolean} done  whether typing is over; until then a term at the very end may go on
 * @returns {{words: string, nots: string[], rest: string}}  words: what to look for; rest: what
 *   stays in the box
 */
export function readTyped(typed, done) {
  const nots = [];
  let open = "";
  const rest = typed.replace(TERM, (whole, before, quoted, bare, at) => {
    if (bare && !done && at + whole.length === typed.length) {
      open = whole;
      return whole;
    }
    nots.push((quoted ?? bare).trim());
    return before ? " " : "";
  });
  let words = open ? rest.slice(0, rest.length - open.length) : rest;
  // A quoted term that is not closed yet says nothing.
  words = words.replace(/(^|\s)-"[^"]*$/u, "").replace(/(^|\s)-$/u, "");
  return {
    words: words.replace(/\s+/gu, " ").trim(),
    nots: nots.filter(Boolean),
    rest: nots.length ? rest.replace(/\s{2,}/gu, " ").trimStart() : rest,
  };
}

/** Whether there is something to look for. */
export const isAsking = (query) =>
  Boolean(query.text || query.ids.length || query.pictures.length);

/** Whether there is anything in the box at all. */
export const isBlank = (query) => !isAsking(query) && !query.nots.length && !query.unlikes.length;

/** The query with one more in one of its lists. */
export function withOne(query, list, value) {
  const limit = list === "pictures" ? MAX_PICTURES : MAX_PARTS;
  const kept = query[list].filter((one) => one !== value);
  return { ...query, [list]: [...kept, value].slice(-limit) };
}

export const without = (query, list, value) =>
  ({ ...query, [list]: query[list].filter((one) => one !== value) });

/** The mode that can be asked: without words there are none to look for. */
export const modeOf = (query) => (query.text ? query.mode : "dense");

/** The query as the address has it: "?q=a+dog&not=people". */
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

/** What an address asks for; what makes no sense in it is left out. */
export function fromAddress(search) {
  const fields = new URLSearchParams(search);
  const lists = Object.fromEntries(
    Object.entries(LISTS).map(([list, name]) => [list, [...new Set(fields.getAll(name))].slice(0, MAX_PARTS)]),
  );
  const mode = fields.get("mode");
  // People write links by hand: minus-terms may stand in the words, too.
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

/** The query as the API takes it, without the page that is wanted. */
export function toBody(query) {
  const parts = [
    query.text,
    ...query.pictures.map((_, number) => ({ image: { file: number } })),
    ...query.ids.map((id) => ({ id })),
    ...query.nots.map((words) => ({ not: words })),
  ];
  return { query: parts.filter(Boolean), unlike: query.unlikes, mode: modeOf(query), ...scope(query) };
}

/** What every page of a query's results must be asked with. */
export function scope(query) {
  return {
    target: query.target,
    where: query.where,
    ...(query.collection ? { collection: query.collection } : {}),
  };
}

/** The query in a few words, for the window's title and messages. */
export function describe(query) {
  const pictures = query.ids.length + query.pictures.length;
  const parts = [query.text && `“${query.text}”`];
  if (pictures) parts.push(pictures === 1 ? "this picture" : `these ${pictures} pictures`);
  const wanted = parts.filter(Boolean).join(" with ");
  return query.nots.length ? `${wanted} without ${query.nots.join(", ")}` : wanted;
}
