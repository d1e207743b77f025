// The HTTP API. Every failure is an `ApiError` that can be shown.

/** Seconds after which a busy server is asked again, where it does not say. */
const RETRY = 3;

export class ApiError extends Error {
  /** @param {{status: number, slug: string, title: string, detail: string, retry: number}} problem */
  constructor(problem) {
    super(problem.detail || problem.title);
    Object.assign(this, problem);
  }
}

let ask = null;
let asking = null;

/** How to get a key from whoever sits there: a function that resolves to whether there is one now. */
export function onLocked(asker) {
  ask = asker;
}

/** Whether an error only says that something newer is under way. */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { headers: { Accept: "application/json" }, ...options });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError({
      status: 0,
      slug: "offline",
      title: "The server does not answer",
      detail: "It may have been stopped, or the network is away.",
      retry: 0,
    });
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const problem = await problemOf(response);
  if (response.status === 401 && ask && path !== "/v1/session") {
    asking ??= ask().finally(() => {
      asking = null;
    });
    if (await asking) return request(path, options);
  }
  throw new ApiError(problem);
}

async function problemOf(response) {
  let said = {};
  try {
    said = await response.json();
  } catch {
    // Something between us and the server answered: a proxy's own page.
  }
  const busy = response.status === 429 || response.status === 503;
  const after = Number(response.headers.get("Retry-After"));
  return {
    status: response.status,
    slug: String(said.type ?? "").split("/").pop(),
    title: said.title ?? `The server answered ${response.status}`,
    detail: said.detail ?? "",
    retry: busy ? Math.min(60, Math.max(1, after || RETRY)) : 0,
  };
}

const json = (body, signal) => ({
  method: "POST",
  body: JSON.stringify(body),
  headers: { "Content-Type": "application/json", Accept: "application/json" },
  signal,
});

/** @returns {Promise<{collections: object[], default: string}>} */
export const collections = () => request("/v1/collections");

/** A picture or text by its id, with everything that is stored about it. */
export function item(id, collection, signal) {
  const where = new URLSearchParams({ collection });
  return request(`/v1/items/${encodeURIComponent(id)}?${where}`, { signal });
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

export const searchMany = (body, signal) => request("/v1/search/many", json(body, signal));

/** Sign in: the server answers with a cookie. */
export const signIn = (key) => request("/v1/session", json({ key }));

/** Where a picture's thumbnail is, large enough for so many pixels of its longer side. */
export function thumbnail(address, side) {
  if (!address) return null;
  const wanted = side * Math.min(2, window.devicePixelRatio || 1);
  const size = wanted <= 176 ? 160 : wanted <= 360 ? 320 : 640;
  return `${address}${address.includes("?") ? "&" : "?"}size=${size}`;
}

/** The thumbnail of a stored picture whose hit is not at hand. */
export function thumbnailOf(id, collection, side) {
  const where = new URLSearchParams({ collection });
  return thumbnail(`/v1/items/${encodeURIComponent(id)}/thumbnail?${where}`, side);
}
