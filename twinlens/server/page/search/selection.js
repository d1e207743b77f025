// Select pictures, and do something with all of them: download, copy paths, label, delete.

import { zipAddress } from "../shared/api.js";
import { quoted } from "../shared/bidi.js";
import { copy, h, icon, offerUndo, toast } from "../shared/dom.js";
import { nameOf } from "../shared/hits.js";
import { deleteItems } from "../shared/write-api.js";
import { texts } from "../texts/en/search.js";
import { createLabelDialog } from "./label-dialog.js";

/** Pictures that can be downloaded at once, and deleted at once: what the server accepts. */
const MAX_DOWNLOAD = 500;
const MAX_DELETE = 1000;

/**
 * @param {{hits: () => object[], collection: () => string, onDeleted: () => void,
 *   onChange: () => void}} page  hits: those shown, in order, perhaps with gaps; onDeleted: pictures
 *   are gone, so what is shown must be fetched again; onChange: tiles show who is selected
 */
export function createSelection(page) {
  const selected = new Map();
  let anchor = ""; // the id from which a range begins
  const words = h("p", { class: "selected-count", "aria-live": "polite" });
  const act = (name, text, run) =>
    h("button", { class: "action", type: "button", on: { click: run } }, icon(name), h("span", {}, text));
  const sure = h(
    "div", { class: "sure", hidden: true, role: "group", "aria-label": texts.selection.sure },
    h("span", {}, texts.selection.sureDetail),
    h("button", { class: "action danger", type: "button", on: { click: () => remove() } }, texts.selection.delete),
    h("button", { class: "action", type: "button", on: { click: () => ask(false) } }, texts.selection.keep),
  );
  const actions = h(
    "div", { class: "selected-actions" },
    act("download", texts.selection.download, () => download()),
    act("copy", texts.selection.copyPaths, () => copyPaths()),
    act("album", texts.selection.album, () => albums.open()),
    act("tag", texts.selection.tag, () => tags.open()),
    act("delete", texts.selection.askDelete, () => ask(true)),
  );
  const bar = h(
    "section", { class: "selection-bar", "aria-label": texts.selection.label, hidden: true },
    words, actions, sure,
    h("button", { class: "icon-button", type: "button", title: texts.selection.noneKey, on: { click: () => clear() } },
      icon("close"), h("span", { class: "hidden" }, texts.selection.none)),
  );
  document.body.append(bar);
  new ResizeObserver(() => {
    document.body.style.setProperty("--selection-bar", `${bar.offsetHeight}px`);
  }).observe(bar);
  const albums = createLabelDialog("album", page, () => [...selected.values()]);
  const tags = createLabelDialog("tag", page, () => [...selected.values()]);

  function show() {
    bar.hidden = !selected.size;
    document.body.classList.toggle("selecting", selected.size > 0);
    words.textContent = texts.selection.selected(selected.size);
    ask(false);
    page.onChange();
  }

  function ask(asking) {
    const had = sure.contains(document.activeElement) || actions.contains(document.activeElement);
    sure.hidden = !asking;
    actions.hidden = asking;
    if (had) (asking ? sure : actions).querySelector("button").focus();
  }

  function clear() {
    selected.clear();
    anchor = "";
    show();
  }

  function toggle(hit, range) {
    const hits = page.hits();
    const from = range ? hits.findIndex((one) => one?.id === anchor) : -1;
    const to = hits.findIndex((one) => one?.id === hit.id);
    if (from >= 0 && to >= 0) {
      for (const one of hits.slice(Math.min(from, to), Math.max(from, to) + 1)) if (one) selected.set(one.id, one);
    } else if (selected.has(hit.id)) selected.delete(hit.id);
    else selected.set(hit.id, hit);
    anchor = hit.id;
    show();
  }

  async function download() {
    if (selected.size > MAX_DOWNLOAD) {
      toast(texts.selection.tooManyDownloads(MAX_DOWNLOAD));
      return;
    }
    try {
      h("a", { href: await zipAddress([...selected.keys()], page.collection()), download: "" }).click();
    } catch (error) {
      toast(error.message);
    }
  }

  async function copyPaths() {
    const paths = [...selected.values()].map((hit) => hit.path).join("\n");
    toast((await copy(paths)) ? texts.selection.copied(selected.size) : texts.selection.cannotCopy);
  }

  /** Hide the pictures at once, and delete them when that can no longer be undone. */
  function remove() {
    if (selected.size > MAX_DELETE) {
      toast(texts.selection.tooManyDeletions(MAX_DELETE));
      return;
    }
    const gone = [...selected.values()];
    const ids = gone.map((hit) => hit.id);
    const collection = page.collection();
    for (const id of ids) removed.add(id);
    clear();
    const said = gone.length === 1
      ? texts.selection.deletedOne(quoted(nameOf(gone[0].path))) : texts.selection.deleted(gone.length);
    const restore = () => {
      for (const id of ids) removed.delete(id);
      page.onChange();
    };
    offerUndo(said, restore, async () => {
      try {
        await deleteItems(ids, collection);
      } catch (error) {
        restore();
        toast(texts.selection.notDeleted(error.message));
        return;
      }
      page.onDeleted();
    });
  }

  /** The ids of pictures that are being deleted. */
  const removed = new Set();

  return {
    has: (id) => selected.has(id),
    isRemoved: (id) => removed.has(id),
    isActive: () => selected.size > 0,
    toggle,
    clear,
  };
}
