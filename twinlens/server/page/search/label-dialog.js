// Put the selected pictures into an album or tag them, or undo that.

import { labels } from "../shared/api.js";
import { quoted } from "../shared/bidi.js";
import { createDialog, onSubmit } from "../shared/dialogs.js";
import { h, offerUndo, toast } from "../shared/dom.js";
import { hasLabel } from "../shared/filters.js";
import { oneSpaced } from "../shared/query.js";
import { changeLabel } from "../shared/write-api.js";
import { texts } from "../texts/en/search.js";

const OPPOSITE = { add: "remove", remove: "add" };

/**
 * @param {"album"|"tag"} kind
 * @param {{collection: () => string, onChanged: () => void}} page  onChanged: fields of pictures are others now
 * @param {() => object[]} selected  the selected pictures
 * @returns {{open: () => void}}
 */
export function createLabelDialog(kind, page, selected) {
  const words = texts[kind];
  const field = `${kind}s`;
  const known = h("datalist", { id: field });
  const input = h("input", {
    class: "field", id: kind, type: "text", list: field, maxlength: 100, autocomplete: "off", required: true,
  });
  const failed = h("p", { class: "error", role: "alert" });
  const form = h(
    "form", { class: "key-form" },
    h("label", { for: kind }, words.title), input, known, failed,
    h(
      "div", { class: "ways" },
      h("button", { class: "action first", type: "submit", value: "add" }, words.put),
      h("button", { class: "action", type: "submit", value: "remove" }, words.take),
    ),
  );
  const dialog = createDialog(words.title, `${kind}-title`, form);

  onSubmit(form, async (event) => {
    const how = event.submitter?.value ?? "add";
    const name = oneSpaced(input.value);
    const hits = selected();
    const collection = page.collection();
    failed.textContent = "";
    try {
      const changed = await changeLabel(kind, name, how, hits.map((hit) => hit.id), collection);
      dialog.close();
      const others = hits.filter((hit) => hasLabel(hit, field, name) === (how === "remove")).map((hit) => hit.id);
      const said = changed ? words.done[how](changed, quoted(name)) : words.already[how](quoted(name));
      if (changed && others.length) offerUndo(said, () => undo(name, how, others, collection), () => {});
      else toast(said);
      if (changed) page.onChanged();
    } catch (error) {
      failed.textContent = error.message;
    }
  });

  async function undo(name, how, ids, collection) {
    try {
      await changeLabel(kind, name, OPPOSITE[how], ids, collection);
      page.onChanged();
    } catch (error) {
      toast(error.message);
    }
  }

  return {
    async open() {
      failed.textContent = "";
      dialog.showModal();
      input.select();
      const found = await labels(field, page.collection()).catch(() => []);
      known.replaceChildren(...found.map(({ name }) => h("option", { value: name })));
    },
  };
}
