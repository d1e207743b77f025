// Put the selected pictures into an album, or take them out of it.

import { albums } from "../shared/api.js";
import { createDialog } from "../shared/dialogs.js";
import { quoted } from "../shared/bidi.js";
import { h, toast } from "../shared/dom.js";
import { changeAlbum } from "../shared/write-api.js";
import { texts } from "../texts/en/search.js";

/**
 * @param {{collection: () => string, onChanged: () => void}} page  onChanged: fields of pictures are others now
 * @param {() => string[]} selected  the ids of the selected pictures
 * @returns {{open: () => void}}
 */
export function createAlbumDialog(page, selected) {
  const known = h("datalist", { id: "albums" });
  const input = h("input", {
    class: "field", id: "album", type: "text", list: "albums", maxlength: 100, autocomplete: "off", required: true,
  });
  const failed = h("p", { class: "error", role: "alert" });
  const form = h(
    "form", { class: "key-form" },
    h("label", { for: "album" }, texts.album.title), input, known, failed,
    h(
      "div", { class: "ways" },
      h("button", { class: "action first", type: "submit", value: "add" }, texts.album.put),
      h("button", { class: "action", type: "submit", value: "remove" }, texts.album.take),
    ),
  );
  const dialog = createDialog(texts.album.title, "album-title", form);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const how = event.submitter?.value ?? "add";
    failed.textContent = "";
    try {
      const changed = await changeAlbum(input.value, how, selected(), page.collection());
      toast(texts.album.done[how](changed, quoted(input.value)));
      dialog.close();
      page.onChanged();
    } catch (error) {
      failed.textContent = error.message;
    }
  });

  return {
    async open() {
      failed.textContent = "";
      dialog.showModal();
      input.select();
      const found = await albums(page.collection()).catch(() => []);
      known.replaceChildren(...found.map(({ name }) => h("option", { value: name })));
    },
  };
}
