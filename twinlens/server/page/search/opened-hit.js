// Open a result in the viewer. The address has its id, so that going back closes it.

import { isAbort, item } from "../shared/api.js";
import { toast } from "../shared/dom.js";
import { OPENED_ON_MAP, toAddress } from "../shared/query.js";
import { texts } from "../texts/en/search.js";
import { texts as shared } from "../texts/en/shared.js";
import { createViewer } from "./viewer.js";

/** Load the next page of results when so many are left after the open one. */
const PRELOAD = 8;
/** Hits to load on each side of one that is not here yet. */
const AROUND = 30;

/**
 * @param {{query: () => object, results: () => object|null, collection: () => string,
 *   signal: () => AbortSignal, isFirst: () => boolean, onEnd: () => void,
 *   onClosed: (id: string) => void}} page  collection: the name of the one that is searched; isFirst:
 *   the query is the one with which the page was opened; onEnd: more results are needed
 * @param {object} handlers  of the viewer
 */
export function createOpenedHit(page, handlers) {
  const viewer = createViewer({ ...handlers, onMove: move, onClose: closed });
  const openedOnMap = sessionStorage.getItem(OPENED_ON_MAP) === location.pathname + location.search;
  sessionStorage.removeItem(OPENED_ON_MAP);
  let opened = ""; // the id
  let request = null;

  const addressOf = (id) => toAddress(page.query(), { open: id });

  async function show() {
    if (!opened) {
      viewer.close();
      return;
    }
    const id = opened;
    const query = page.query();
    request?.abort();
    const at = page.results()?.hits.findIndex((hit) => hit?.id === id) ?? -1;
    if (at >= 0) {
      const { hits, complete } = page.results();
      viewer.show(hits[at], {
        first: at === 0, last: at === hits.length - 1 && complete,
        position: texts.viewer.position(at + 1, complete ? hits.length : `${hits.length}+`),
        link: addressOf(id), neighbours: [hits[at - 1], hits[at + 1]], query,
      });
      if (at > hits.length - PRELOAD) page.onEnd();
      return;
    }
    request = new AbortController();
    try {
      const found = await item(id, page.collection(), request.signal);
      if (opened !== id) return;
      viewer.show(found, { first: true, last: true, position: "", link: addressOf(id), neighbours: [], query });
    } catch (error) {
      if (isAbort(error) || opened !== id) return;
      opened = "";
      history.replaceState(null, "", toAddress(page.query()));
      toast(error.slug === "not-found" ? shared.gone.picture : error.message);
    }
  }

  async function move(by) {
    const results = page.results();
    const { hits } = results;
    const at = hits.findIndex((hit) => hit?.id === opened) + by;
    if (at === by - 1 || at < 0 || at >= hits.length) return;
    if (!hits[at]) await results.load(Math.max(0, at - AROUND), Math.min(at + AROUND, hits.length), page.signal());
    const next = hits[at];
    if (!next) return;
    opened = next.id;
    history.replaceState(history.state, "", addressOf(opened));
    show();
  }

  /** Whether the picture was opened on the map, and nothing else was done here since. */
  const cameFromMap = () => page.isFirst() && history.state === null && openedOnMap;

  /** After the dialog was closed: by its button, Escape or the browser's back button. */
  function closed() {
    const was = opened;
    if (!was) return;
    opened = "";
    if (history.state?.opened || cameFromMap()) history.back();
    else history.replaceState(null, "", toAddress(page.query()));
    page.onClosed(was);
  }

  return {
    /** Open a hit. */
    open(id) {
      history.pushState({ opened: true }, "", addressOf(id));
      opened = id;
      show();
    },
    /** Remember which hit the address has, "" for none; `show` shows it. */
    set(id) {
      opened = id;
    },
    /** Show the open hit as it is in the results now; close the viewer if there is none. */
    show,
    /** Close the viewer without going back, because the address is about to change. */
    leave() {
      if (!opened) return;
      opened = "";
      viewer.close();
    },
  };
}
