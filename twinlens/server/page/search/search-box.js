// The search box: words, and chips for pictures and for what should not be there.

import { thumbnailOf } from "../shared/api.js";
import { h, hidden, icon, toast } from "../shared/dom.js";
import { keep, mayBePicture, picture } from "./dropped-pictures.js";
import { isBlank, readTyped, withOne, without } from "../shared/query.js";

/** Milliseconds without a key before what is typed is looked for. */
const PAUSE = 280;
/** The type under which a result that is dragged says which picture it is. */
export const DRAGGED = "application/x-twinlens-id";

/**
 * @param {HTMLElement} place
 * @param {{onChange: (query: object, done: boolean) => void, onDown: () => void}} handlers
 *   onChange: the query is another; done: typing is over. onDown: the down arrow was pressed.
 * @returns {{show: (query: object, collection: string) => void, focus: () => void}}
 */
export function createBox(place, { onChange, onDown }) {
  let query = null;
  let collection = "";
  let pause = 0;

  const wanted = h("ul", { class: "chips", "aria-label": "Pictures to look for" });
  const unwanted = h("ul", { class: "chips", "aria-label": "What should not be there" });
  const input = h("input", {
    class: "words", id: "words", type: "text", name: "q", autocomplete: "off", spellcheck: "false",
    enterkeyhint: "search", maxlength: 2000, "aria-label": "Words to look for",
    placeholder: "Describe a picture, or drop one here",
  });
  const files = h("input", {
    type: "file", accept: "image/*,.heic,.avif,.jxl", multiple: true, hidden: true, tabindex: -1,
    "aria-label": "Pictures to search with",
  });
  const clear = h("button", { class: "icon-button", type: "button", title: "Clear" }, icon("close"), hidden("Clear the search"));
  const pick = h(
    "button", { class: "icon-button", type: "button", title: "Search with a picture" },
    icon("picture"), hidden("Search with a picture"),
  );
  const form = h(
    "form", { class: "box", role: "search" },
    icon("search"), h("div", { class: "parts" }, wanted, input, unwanted), clear, pick, files,
  );
  place.append(form);

  function change(next, done) {
    query = next;
    draw();
    onChange(next, done);
  }

  function stop() {
    clearTimeout(pause);
    pause = 0;
  }

  function read(done) {
    stop();
    const { words, nots, rest } = readTyped(input.value, done);
    if (nots.length) input.value = rest;
    let next = { ...query, text: words };
    for (const words of nots) next = withOne(next, "nots", words);
    if (done || nots.length || words !== query.text) change(next, done);
  }

  function draw() {
    const sign = (list, value) => () => {
      change(without(query, list, value), true);
      input.focus();
    };
    wanted.replaceChildren(
      ...query.pictures.map((token) => {
        const shown = picture(token);
        return chip(shown?.url, shown?.name || "your picture", "", sign("pictures", token));
      }),
      ...query.ids.map((id) => chip(thumbnailOf(id, collection, 40), "like this", "", sign("ids", id))),
    );
    unwanted.replaceChildren(
      ...query.unlikes.map((id) =>
        chip(thumbnailOf(id, collection, 40), "not like this", "not", sign("unlikes", id))),
      ...query.nots.map((words) => chip(null, words, "not", sign("nots", words))),
    );
    wanted.hidden = !wanted.children.length;
    unwanted.hidden = !unwanted.children.length;
    clear.hidden = isBlank(query) && !input.value;
    input.placeholder = isBlank(query) || query.text ? "Describe a picture, or drop one here" : "Add words";
  }

  async function add(list) {
    const pictures = [...list].filter(mayBePicture);
    if (!pictures.length) {
      toast(list.length ? `${list[0].name} is not a picture` : "That is no picture: drop its file, or copy and paste it");
      return;
    }
    let next = query;
    for (const file of pictures) {
      try {
        next = withOne(next, "pictures", await keep(file));
      } catch {
        toast(`${file.name} cannot be read`);
      }
    }
    change(next, true);
  }

  input.addEventListener("input", (event) => {
    clear.hidden = isBlank(query) && !input.value;
    stop();
    if (!event.isComposing) pause = setTimeout(read, PAUSE, false);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") {
      event.preventDefault();
      onDown();
    } else if (event.key === "Backspace" && !input.value) {
      const last = ["nots", "unlikes", "ids", "pictures"].find((list) => query[list].length);
      if (last) change(without(query, last, query[last].at(-1)), true);
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    read(true);
  });
  form.addEventListener("click", (event) => {
    if (!event.target.closest("button")) input.focus();
  });
  clear.addEventListener("click", () => {
    input.value = "";
    change({ ...query, text: "", nots: [], ids: [], pictures: [], unlikes: [] }, true);
    input.focus();
  });
  pick.addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    if (files.files.length) add(files.files);
    files.value = "";
  });
  document.addEventListener("paste", (event) => {
    const pasted = event.clipboardData?.files;
    if (!pasted?.length || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    add(pasted);
  });
  takeDrops(form, add, (id) => change(withOne(query, "ids", id), true));

  return {
    show(next, served) {
      collection = served;
      // Somebody began to type before the page was complete.
      const ahead = pause && next === query;
      if (!ahead) stop();
      query = next;
      // While somebody types, what stands there is theirs.
      if (!ahead && readTyped(input.value, true).words !== next.text) input.value = next.text;
      draw();
    },
    focus() {
      input.focus();
      input.select();
    },
  };
}

function chip(image, words, kind, remove) {
  const seen = image && h("img", { src: image, alt: "", width: 28, height: 28 });
  seen?.addEventListener("error", () => seen.replaceWith(icon("picture")), { once: true });
  const said = kind === "not" && !image ? `Remove: without ${words}` : `Remove: ${words}`;
  return h(
    "li", {},
    h(
      "button", { class: `chip ${kind}`, type: "button", title: "Remove", "aria-label": said, on: { click: remove } },
      kind === "not" && icon("minus"), seen, h("span", { class: "chip-text" }, words), icon("close"),
    ),
  );
}

/** Let pictures be dropped anywhere on the page. */
function takeDrops(form, onFiles, onId) {
  let within = 0;
  const show = () => document.body.classList.toggle("dropping", within > 0);
  const takes = (event) => {
    const types = event.dataTransfer?.types ?? [];
    return !document.querySelector("dialog[open]")
      && (types.includes("Files") || types.includes(DRAGGED) || types.includes("text/uri-list"));
  };
  window.addEventListener("dragenter", (event) => {
    if (!takes(event)) return;
    event.preventDefault();
    within += 1;
    show();
  });
  window.addEventListener("dragleave", (event) => {
    if (!takes(event)) return;
    within = Math.max(0, within - 1);
    show();
  });
  window.addEventListener("dragover", (event) => {
    if (takes(event)) event.preventDefault();
  });
  window.addEventListener("dragend", () => {
    within = 0;
    show();
  });
  window.addEventListener("drop", (event) => {
    within = 0;
    show();
    if (!takes(event)) return;
    event.preventDefault();
    const id = event.dataTransfer.getData(DRAGGED);
    if (!id) onFiles(event.dataTransfer.files);
    // A result that is let go where it was picked up means nothing.
    else if (form.contains(event.target)) onId(id);
  });
}
