// Call routes that write or need a write key. The key stays in this page's memory only.

import { texts } from "../texts/en/shared.js";

const state = { key: "", ask: null };

/** A refusal of the server; `status` is 0 if it does not answer. */
export class WriteError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Set the function that asks the user for a write key. It resolves to the key, or "". */
export function onWriteLocked(ask) {
  state.ask = ask;
}

/**
 * Send a request; a server that requires a key gets the one that the user wrote.
 * @returns {Promise<Response>}  a successful response
 */
export async function send(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (state.key) headers.Authorization = `Bearer ${state.key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new WriteError(0, `${texts.server.offline}. ${texts.server.offlineDetail}`);
  }
  if (response.ok) return response;
  if ((response.status === 401 || response.status === 403) && state.ask) {
    state.key = await state.ask(state.key ? texts.writeKey.refused : "");
    if (state.key) return send(path, options);
  }
  const problem = await response.json().catch(() => ({}));
  throw new WriteError(response.status, problem.detail ?? texts.server.answered(response.status));
}

/** POST JSON. */
export const post = (path, body, options = {}) =>
  send(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), ...options });

/** Delete pictures from the collection; their files stay. Goes on if the page is closed meanwhile. */
export const deleteItems = (ids, collection) =>
  post("/v1/items/delete", { ids, ...(collection ? { collection } : {}) }, { keepalive: true });

/**
 * Give pictures an album or a tag ("add"), or take it from them ("remove").
 * @param {"album"|"tag"} kind
 * @returns {Promise<number>}  how many were changed
 */
export async function changeLabel(kind, name, how, ids, collection) {
  const response = await post(`/v1/${kind}s`, { [kind]: name, [how]: ids, ...(collection ? { collection } : {}) });
  return (await response.json()).changed;
}

/**
 * Save a search under a name, in place of one of that name.
 * @returns {Promise<{name: string, search: object}>}  what was saved
 */
export async function saveSearch(name, search, collection) {
  const response = await post("/v1/searches", { name, search, ...(collection ? { collection } : {}) }, { method: "PUT" });
  return response.json();
}

/** Delete a saved search. */
export const deleteSearch = (name, collection) =>
  send(`/v1/searches?${new URLSearchParams({ name, ...(collection ? { collection } : {}) })}`, { method: "DELETE" });

/**
 * Store pictures.
 * @param {{uri: string, root: string, size: number, mtime_ns: number}[]} items
 * @param {File[]} files  one for each item
 * @returns {Promise<{items: {uri: string, status: string, reason: string}[]}>}
 */
export async function putItems(items, files, collection, signal) {
  const form = new FormData();
  form.append("items", JSON.stringify({
    items: items.map((item, number) => ({ ...item, file: number })),
    ...(collection ? { collection } : {}),
  }));
  for (const file of files) form.append("file", file, "picture");
  const response = await send("/v1/items", { method: "POST", body: form, signal });
  return response.json();
}
