// Create the search box: words, and chips for pictures and exclusions.

import { thumbnailOf } from "../shared/api.js";
import { isolated, quoted } from "../shared/bidi.js";
import { h, hidden, icon, isTouch, toast } from "../shared/dom.js";
import { keep, mayBePicture, picture } from "./dropped-pictures.js";
import { isBlank, readTyped, withOne, without } from "../shared/query.js";
import { texts } from "../texts/en/search.js";

/** Milliseconds after the last key press before a search starts. */
const TYPING_PAUSE = 280;
/** It fits on a small screen, where nothing can be dropped either. */
const PLACEHOLDER = isTouch || matchMedia("(max-width: 760px)").matches
  ? texts.box.describe : texts.box.describeOrDrop;
/** The data type of the picture id that a dragged result carries. */
export const DRAGGED_ID = "application/x-twinlens-id";

/**
 * @param {HTMLElement} container
 * @param {{onChange: (query: object, done: boolean) => void, onDown: () => void}} handlers
 *   onChange: the query changed; done: the user has finished typing. onDown: ↓ was pressed.
 * @returns {{show: (query: object, collection: string) => void, focus: () => void}}
 */
export function createSearchBox(container, { onChange, onDown }) {
  let query = null;
  let collection = "";
  let pause = 0;
  let drawn = ""; // the chips shown

  const wanted = h("ul", { class: "chips", "aria-label": texts.box.wanted });
  const unwanted = h("ul", { class: "chips", "aria-label": texts.box.unwanted });
  const input = h("input", {
    class: "words", id: "words", type: "text", name: "q", autocomplete: "off", spellcheck: "false",
    enterkeyhint: "search", maxlength: 2000, "aria-label": texts.box.words,
    placeholder: PLACEHOLDER,
  });
  const files = h("input", {
    type: "file", accept: "image/*,.heic,.avif,.jxl", multiple: true, hidden: true, tabindex: -1,
    "aria-label": texts.box.files,
  });
  const clear = h("button", { class: "icon-button", type: "button", title: texts.box.clear }, icon("close"), hidden(texts.box.clearSearch));
  const pick = h(
    "button", { class: "icon-button", type: "button", title: texts.box.withPicture },
    icon("picture"), hidden(texts.box.withPicture),
  );
  const form = h(
    "form", { class: "box", role: "search" },
    icon("search"), h("div", { class: "parts" }, wanted, input, unwanted), clear, pick, files,
  );
  container.append(form);

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

  /** Read the words typed just now, before something else changes the query. */
  function readPending() {
    if (pause) read(false);
  }

  function draw() {
    drawChips();
    clear.hidden = isBlank(query) && !input.value;
    input.placeholder = isBlank(query) || query.text ? PLACEHOLDER : texts.box.addWords;
  }

  function drawChips() {
    // Keep the buttons if nothing changed: one may be pressed right now.
    const lists = JSON.stringify([collection, query.pictures, query.ids, query.unlikes, query.nots]);
    if (lists === drawn) return;
    drawn = lists;
    const remover = (list, value) => () => {
      change(without(query, list, value), true);
      input.focus();
    };
    wanted.replaceChildren(
      ...query.pictures.map((token) => {
        const shown = picture(token);
        return chip(shown?.url, shown?.name || texts.box.yourPicture, "", remover("pictures", token));
      }),
      ...query.ids.map((id) => chip(thumbnailOf(id, collection, 160), texts.box.likeThis, "", remover("ids", id))),
    );
    unwanted.replaceChildren(
      ...query.unlikes.map((id) =>
        chip(thumbnailOf(id, collection, 160), texts.box.notLikeThis, "not", remover("unlikes", id))),
      ...query.nots.map((words) => chip(null, words, "not", remover("nots", words))),
    );
    wanted.hidden = !wanted.children.length;
    unwanted.hidden = !unwanted.children.length;
  }

  async function add(list) {
    const pictures = [...list].filter(mayBePicture);
    if (!pictures.length) {
      toast(list.length ? texts.box.isNoPicture(quoted(list[0].name)) : texts.box.noPicture);
      return;
    }
    const tokens = [];
    for (const file of pictures) {
      try {
        tokens.push(await keep(file));
      } catch {
        toast(texts.box.unreadable(quoted(file.name)));
      }
    }
    // The query may have changed while the files were read.
    readPending();
    change(tokens.reduce((next, token) => withOne(next, "pictures", token), query), true);
  }

  input.addEventListener("input", (event) => {
    clear.hidden = isBlank(query) && !input.value;
    stop();
    if (!event.isComposing) pause = setTimeout(read, TYPING_PAUSE, false);
  });
  for (const type of ["click", "change", "drop", "paste"]) {
    window.addEventListener(type, ({ target }) => target !== input && readPending(), { capture: true });
  }
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
  acceptDrops(form, add, (id) => change(withOne(query, "ids", id), true));

  return {
    show(next, name) {
      collection = name;
      // The user may have begun to type before the page had loaded.
      const ahead = pause && next === query;
      if (!ahead) stop();
      query = next;
      // Do not change the text while the user types.
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
  const thumbnail = image && h("img", { src: image, alt: "", width: 28, height: 28 });
  thumbnail?.addEventListener("error", () => thumbnail.replaceWith(icon("picture")), { once: true });
  const label = kind === "not" && !image ? texts.box.removeExclusion(quoted(words)) : texts.box.removeChip(quoted(words));
  return h(
    "li", {},
    h(
      "button", { class: `chip ${kind}`, type: "button", title: texts.box.remove, "aria-label": label, on: { click: remove } },
      kind === "not" && icon("minus"), thumbnail, isolated(words, { class: "chip-text" }), icon("close"),
    ),
  );
}

/** Accept pictures that are dropped anywhere on the page. */
function acceptDrops(form, onFiles, onId) {
  let within = 0;
  const show = () => document.body.classList.toggle("dropping", within > 0);
  const accepts = (event) => {
    const types = event.dataTransfer?.types ?? [];
    return !document.querySelector("dialog[open]")
      && (types.includes("Files") || types.includes(DRAGGED_ID) || types.includes("text/uri-list"));
  };
  window.addEventListener("dragenter", (event) => {
    if (!accepts(event)) return;
    event.preventDefault();
    within += 1;
    show();
  });
  window.addEventListener("dragleave", (event) => {
    if (!accepts(event)) return;
    within = Math.max(0, within - 1);
    show();
  });
  window.addEventListener("dragover", (event) => {
    if (accepts(event)) event.preventDefault();
  });
  window.addEventListener("dragend", () => {
    within = 0;
    show();
  });
  window.addEventListener("drop", (event) => {
    within = 0;
    show();
    if (!accepts(event)) return;
    event.preventDefault();
    const id = event.dataTransfer.getData(DRAGGED_ID);
    if (!id) onFiles(event.dataTransfer.files);
    // Results count only when dropped on the search box.
    else if (form.contains(event.target)) onId(id);
  });
}
