// Save the query under a name, list the saved searches, run and remove them.

import { savedSearches } from "../shared/api.js";
import { isolated, quoted } from "../shared/bidi.js";
import { createDialog, onSubmit } from "../shared/dialogs.js";
import { h, hidden, icon, offerUndo, toast } from "../shared/dom.js";
import { canBeSaved, describe, fromSaved, oneSpaced, toSaved, toTyped } from "../shared/query.js";
import { deleteSearch, saveSearch } from "../shared/write-api.js";
import { texts } from "../texts/en/search.js";

const MAX_NAME = 100;

/**
 * @param {{query: () => object, collection: () => string, onRun: (query: object) => void}} page
 */
export function createSavedSearches(page) {
  const list = h("ul", { class: "saved-list", role: "list", "aria-label": texts.saved.title });
  const element = h("section", { class: "saved", hidden: true }, h("h3", {}, texts.saved.title), list);
  const button = h(
    "button", { class: "quiet save", type: "button", title: texts.saved.saveTitle, hidden: true, on: { click: ask } },
    icon("bookmark"), h("span", {}, texts.saved.save),
  );
  const known = h("datalist", { id: "saved-names" });
  const input = h("input", {
    class: "field", id: "saved-name", type: "text", list: "saved-names", maxlength: MAX_NAME, autocomplete: "off", required: true,
  });
  const failed = h("p", { class: "error", role: "alert" });
  const form = h(
    "form", { class: "key-form" },
    h("label", { for: "saved-name" }, texts.saved.name), input, known, failed,
    h("p", {}, texts.saved.explanation),
    h("div", { class: "ways" }, h("button", { class: "action first", type: "submit" }, texts.saved.keep)),
  );
  const dialog = createDialog(texts.saved.saveTitle, "saved-title", form);
  const taken = new Set(); // the names of saved searches
  let warned = ""; // the taken name that the user was told of

  async function ask() {
    const query = page.query();
    failed.textContent = "";
    warned = "";
    taken.clear();
    input.value = [...(toTyped(query) || describe(query) || query.where)].slice(0, MAX_NAME).join("");
    dialog.showModal();
    input.select();
    const found = await savedSearches(page.collection()).catch(() => []);
    for (const { name } of found) taken.add(name);
    known.replaceChildren(...found.map(({ name }) => h("option", { value: name })));
  }

  onSubmit(form, async () => {
    const wanted = oneSpaced(input.value);
    failed.textContent = "";
    if (taken.has(wanted) && warned !== wanted) {
      warned = wanted;
      failed.textContent = texts.saved.taken(quoted(wanted));
      return;
    }
    try {
      const { name } = await saveSearch(input.value, toSaved(page.query()), page.collection());
      dialog.close();
      toast(texts.saved.done(quoted(name)));
    } catch (error) {
      failed.textContent = error.message;
    }
  });

  function run({ search }) {
    const { query, exact } = fromSaved(search, page.query().collection);
    page.onRun(query);
    if (!exact) toast(texts.saved.inexact);
  }

  /** Hide a saved search, and move the focus to another one. */
  function hide(item) {
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.hidden = true;
    next?.querySelector("button").focus();
  }

  function drop(item) {
    if (!item.hidden) hide(item);
    item.remove();
    element.hidden = !list.children.length;
  }

  /** Remove a saved search at once; undoing saves it again. */
  async function remove({ name, search }, item) {
    const collection = page.collection();
    try {
      await deleteSearch(name, collection);
    } catch (error) {
      const found = await savedSearches(collection).catch(() => null);
      const gone = found && !found.some((one) => one.name === name);
      toast(gone ? texts.saved.gone(quoted(name)) : error.message);
      if (gone) drop(item);
      return;
    }
    hide(item);
    offerUndo(texts.saved.removed(quoted(name)), async () => {
      try {
        await saveSearch(name, search, collection);
        item.hidden = false;
      } catch (error) {
        toast(error.message);
      }
    }, () => drop(item));
  }

  function draw(saved) {
    const item = h(
      "li", { class: "saved-search" },
      h("button", { class: "quiet", type: "button", on: { click: () => run(saved) } }, isolated(saved.name)),
      h(
        "button", { class: "icon-button", type: "button", title: texts.saved.remove(quoted(saved.name)), on: { click: () => remove(saved, item) } },
        icon("close"), hidden(texts.saved.remove(quoted(saved.name))),
      ),
    );
    return item;
  }

  return {
    button,
    element,
    /** Offer to save the query, if it can be saved. */
    offer(query) {
      button.hidden = !canBeSaved(query);
    },
    /** List the saved searches of a collection in `element`, which is hidden without any. */
    async list(collection, signal) {
      if (signal.aborted) return;
      element.hidden = true;
      const found = await savedSearches(collection, signal).catch(() => []);
      if (signal.aborted) return;
      list.replaceChildren(...found.map(draw));
      element.hidden = !found.length;
    },
  };
}
