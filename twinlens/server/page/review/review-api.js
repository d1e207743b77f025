// Call the routes of the review. They need a write key, which stays in this page's memory only.

const state = { key: "", ask: null };

/** A refusal of the server; `status` is 0 if it does not answer. */
export class ReviewError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Set the function that asks the user for a write key. It resolves to the key, or "". */
export function onLocked(ask) {
  state.ask = ask;
}

async function send(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (state.key) headers.Authorization = `Bearer ${state.key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new ReviewError(0, "The server does not answer. It may have stopped, or the network is down.");
  }
  if (response.ok) return response;
  if ((response.status === 401 || response.status === 403) && state.ask) {
    state.key = await state.ask(state.key ? "The server does not accept this key: it needs the scope write." : "");
    if (state.key) return send(path, options);
  }
  const problem = await response.json().catch(() => ({}));
  throw new ReviewError(response.status, problem.detail ?? `The server answered ${response.status}`);
}

/** @returns {Promise<{items: object[], next: string}>}  a page of flagged pictures */
export async function reviewPage(which, after, collection) {
  const response = await send(`/v1/review?${new URLSearchParams({ state: which, after, collection })}`);
  return response.json();
}

/** Release a picture, or hold it back. */
export const decide = (id, decision, collection) =>
  send("/v1/review", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ids: [id], decision, ...(collection ? { collection } : {}) }),
  });

/** The URL of a blob with a thumbnail: an image element would send no key. */
export async function thumbnailBlob(path) {
  const response = await send(`${path}&size=320`, { headers: { Accept: "image/webp,image/jpeg" } });
  return URL.createObjectURL(await response.blob());
}
