// Call the HTTP API. Every failure is an `ApiError` whose text can be shown.

import { texts } from "../texts/en/shared.js";

/** Seconds before a retry if a busy server names none. */
const RETRY_SECONDS = 3;

export class ApiError extends Error {
  /** @param {{status: number, slug: string, title: string, detail: string, retry: number}} problem */
  constructor(problem) {
    // Of our own errors the detail alone does not say what happened.
    super(problem.status ? problem.detail || problem.title : `${problem.title}. ${problem.detail}`);
    Object.assign(this, problem);
  }
}

/** The language of an error's text, if it is not the page's: the server writes English. */
export const languageOf = (error) => (error.status ? "en" : null);

let askForKey = null;
let asking = null;

/** Set the function that asks the user for a key. It resolves to whether there is one now. */
export function onLocked(asker) {
  askForKey = asker;
}

/** Whether an error only means that a newer request replaced this one. */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

/** @returns {Promise<Response>}  a successful response; after a 401 the user is asked for a key */
async function send(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { headers: { Accept: "application/json" }, ...options });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError({
      status: 0,
      slug: "offline",
      title: texts.server.offline,
      detail: texts.server.offlineDetail,
      retry: 0,
    });
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status === 401 && askForKey && path !== "/v1/session") {
    asking ??= askForKey().finally(() => {
      asking = null;
    });
    if (await asking) return send(path, options);
  }
  throw new ApiError(problem);
}

async function request(path, options) {
  const response = await send(path, options);
  return response.status === 204 ? null : response.json();
}

async function problemOf(response) {
  let body = {};
  try {
    body = await response.json();
  } catch (error) {
    if (isAbort(error)) throw error;
    // Not JSON: a proxy's error page, for example.
  }
  const busy = response.status === 429 || response.status === 503;
  const after = Number(response.headers.get("Retry-After"));
  return {
    status: response.status,
    slug: String(body.type ?? "").split("/").pop(),
    title: body.title ?? texts.server.answered(response.status),
    detail: body.detail ?? "",
    retry: busy ? Math.min(60, Math.max(1, after || RETRY_SECONDS)) : 0,
  };
}

const json = (body, signal) => ({
  method: "POST",
  body: JSON.stringify(body),
  headers: { "Content-Type": "application/json", Accept: "application/json" },
  signal,
});

/** Whether the server answers at all. */
export const isRunning = () => fetch("/healthz").then((response) => response.ok, () => false);

/** Whether the server is loading a model: searches wait for it. */
export async function isLoading(signal) {
  const { loading } = await (await fetch("/readyz", { signal })).json();
  return loading > 0;
}

/** @returns {Promise<{collections: object[], default: string}>} */
export const collections = () => request("/v1/collections");

/** A picture or text by its id, with everything that is stored about it. */
export function item(id, collection, signal) {
  const parameters = new URLSearchParams({ collection });
  return request(`/v1/items/${encodeURIComponent(id)}?${parameters}`, { signal });
}

/**
 * Search.
 * @param {object} body  as the API documents it
 * @param {Blob[]} files  pictures that `body.query` refers to by number
 */
export function search(body, files, signal) {
  if (!files.length) return request("/v1/search", json(body, signal));
  const form = new FormData();
  form.append("request", JSON.stringify(body));
  files.forEach((file, number) => form.append("image", file, `${number}`));
  return request("/v1/search", { method: "POST", body: form, signal });
}

/**
 * Pictures that match a filter, newest first.
 * @returns {Promise<{items: object[], total: number, months: {month: string, count: number, offset: number}[]}>}
 */
export const browse = (where, offset, limit, collection, signal) =>
  request(`/v1/browse?${new URLSearchParams({ where, offset, limit, collection })}`, { signal });

/** The values of fields, with how many pictures have each and the filter that selects them. */
export async function facets(where, collection, signal) {
  const found = await request(`/v1/facets?${new URLSearchParams({ where, collection })}`, { signal });
  return found.facets;
}

/**
 * Searches that find something, each with its picture.
 * @returns {Promise<{words: string, thumbnail: string, width: number, height: number}[]>}
 */
export async function examples(collection, signal) {
  const parameters = collection ? `?${new URLSearchParams({ collection })}` : "";
  const found = await request(`/v1/examples${parameters}`, { signal });
  return found.examples;
}

/**
 * Texts that may describe stored pictures without captions.
 * @returns {Promise<{id: string, proposals?: {text: string, probability: number}[]}[]>}
 */
export async function describe(ids, collection) {
  const { results } = await request("/v1/describe", { ...json({ ids, collection }), priority: "low" });
  return results;
}

/**
 * @param {"albums"|"tags"} field
 * @returns {Promise<{name: string, count: number, where: string}[]>}  the albums or tags of a collection
 */
export async function labels(field, collection) {
  const found = await request(`/v1/${field}?${new URLSearchParams({ collection })}`);
  return found[field];
}

/** @returns {Promise<{name: string, search: object}[]>}  the saved searches of a collection, by name */
export async function savedSearches(collection, signal) {
  const { searches } = await request(`/v1/searches?${new URLSearchParams({ collection })}`, { signal });
  return searches;
}

/** The address of an archive with the originals of these pictures. */
export async function zipAddress(ids, collection) {
  const { address } = await request("/v1/zip", json({ ids, ...(collection ? { collection } : {}) }));
  return address;
}

/** Set in this browser while somebody is signed in: scripts cannot see the cookie. */
const SIGNED_IN = "twinlens-signed-in";

/** Sign in: the server answers with a cookie. */
export async function signIn(key) {
  await request("/v1/session", json({ key }));
  localStorage.setItem(SIGNED_IN, "yes");
}

export const isSignedIn = () => localStorage.getItem(SIGNED_IN) !== null;

/** Sign out: the server deletes the cookie. */
export async function signOut() {
  await request("/v1/session", { method: "DELETE" });
  localStorage.removeItem(SIGNED_IN);
}

/** @returns {Promise<Response>}  the map's points; status 202 while the server computes them */
export const mapPoints = (method, collection) =>
  send(`/v1/map?${new URLSearchParams({ method, ...(collection ? { collection } : {}) })}`);

/** @returns {Promise<{name: string, id: string, x: number, y: number, count: number}[]>}  the map's regions */
export async function mapRegions(method, collection) {
  const { regions } = await request(`/v1/map/regions?${new URLSearchParams({ method, collection })}`);
  return regions ?? [];
}

/**
 * Titles of pictures and their points on the map.
 * @returns {Promise<Object<string, {x: number, y: number, title: string, captioned: boolean,
 *   proposed: boolean}>>}  by id; empty while the server computes the map
 */
export async function mapPictures(ids, method, collection, signal) {
  const { pictures } = await request("/v1/map/pictures", json({ ids, method, collection }, signal));
  return pictures ?? {};
}

/** The smallest thumbnail size for a longer side of so many CSS pixels. */
export function thumbnailSize(side) {
  const pixels = side * Math.min(2, window.devicePixelRatio || 1);
  return pixels <= 176 ? 160 : pixels <= 360 ? 320 : 640;
}

/** The URL of a hit's thumbnail, from the URL that the hit has; null if it has none. */
export function thumbnail(url, side) {
  return url ? `${url}${url.includes("?") ? "&" : "?"}size=${thumbnailSize(side)}` : null;
}

/** The URL of a stored picture's thumbnail, from its id. */
export function thumbnailOf(id, collection, size) {
  const parameters = new URLSearchParams({ size, collection });
  return `/v1/items/${encodeURIComponent(id)}/thumbnail?${parameters}`;
}
