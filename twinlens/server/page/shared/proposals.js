// Ask what pictures without captions may show: only for pictures in view, in batches, cached.

import { describe } from "./api.js";

/** Milliseconds in which pictures are collected into one request, after they came into view. */
const BATCH_DELAY = 200;
/** Pictures in one request: what a server accepts by default. */
const BATCH_SIZE = 64;
const CACHE_SIZE = 5_000;
/** Milliseconds without requests after one failed: a busy server has better things to do. */
const PAUSE = 30_000;

/** Promises of proposals by collection and id. */
const cache = new Map();
/** Ids that wait to be asked for, by collection, with the functions that answer them. */
const waiting = new Map();
let timer = 0;
let asking = false;
let pausedUntil = 0;

/**
 * What a picture may show.
 * @param {string} id
 * @param {string} collection
 * @returns {Promise<{text: string, probability: number}|null>}  null if it cannot be told; never fails
 */
export function proposalFor(id, collection) {
  const key = `${collection}/${id}`;
  if (!cache.has(key)) {
    if (performance.now() < pausedUntil) return Promise.resolve(null);
    cache.set(key, new Promise((answer) => {
      if (!waiting.has(collection)) waiting.set(collection, new Map());
      waiting.get(collection).set(id, answer);
      schedule();
    }));
    if (cache.size > CACHE_SIZE) cache.delete(cache.keys().next().value);
  }
  return cache.get(key);
}

const seen = new WeakMap();
const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    seen.get(target)?.();
    seen.delete(target);
  }
});

/** Ask for a picture's proposal once its element is in view, and show it if there is one. */
export function proposeInView(element, id, collection, show) {
  seen.set(element, () => proposalFor(id, collection).then((proposal) => proposal && show(proposal)));
  watcher.observe(element);
}

function schedule() {
  if (asking) return;
  clearTimeout(timer);
  timer = setTimeout(ask, BATCH_DELAY);
}

/** Send one request; the next one waits for its answer. */
async function ask() {
  const [collection, answers] = waiting.entries().next().value ?? [];
  if (!answers) return;
  const ids = [...answers.keys()].slice(0, BATCH_SIZE);
  const resolve = (found) => {
    for (const id of ids) {
      answers.get(id)(found.get(id) ?? null);
      answers.delete(id);
    }
    if (!answers.size) waiting.delete(collection);
  };
  asking = true;
  try {
    const results = await describe(ids, collection);
    resolve(new Map(results.map((one) => [one.id, one.proposals?.[0]])));
  } catch {
    pausedUntil = performance.now() + PAUSE;
    for (const id of ids) cache.delete(`${collection}/${id}`);
    resolve(new Map());
  } finally {
    asking = false;
  }
  if (waiting.size) schedule();
}
