// Add pictures to the collection: files and folders that are chosen or dropped, sent in parts.

import { isolated, quoted } from "../shared/bidi.js";
import { createDialog } from "../shared/dialogs.js";
import { h, icon, isTouch } from "../shared/dom.js";
import { putItems } from "../shared/write-api.js";
import { texts } from "../texts/en/search.js";
import { mayBePicture } from "./dropped-pictures.js";

/** Files and bytes of one request; a larger file is sent alone. */
const MAX_FILES = 16;
const MAX_BYTES = 12 << 20;
/** The folder that stored paths begin with: a browser does not tell where a file was. */
const ROOT = "uploads";

/** The files of dropped items, with those in folders. @returns {Promise<{path: string, file: File}[]>} */
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ path: file.name, file }));
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ path: entry.fullPath.replace(/^\//, ""), file });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const one of some) await walk(one);
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

/** Split files into the parts of requests. */
function* parts(files) {
  let part = [];
  let bytes = 0;
  for (const one of files) {
    if (part.length && (part.length >= MAX_FILES || bytes + one.file.size > MAX_BYTES)) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(one);
    bytes += one.file.size;
  }
  if (part.length) yield part;
}

/**
 * The dialog "Add pictures".
 * @param {{collection: () => string, onAdded: () => void}} page  onAdded: pictures were stored
 * @returns {{open: () => void}}
 */
export function createUpload(page) {
  const pick = (options) => h("input", {
    type: "file", multiple: true, hidden: true, tabindex: -1, ...options,
    on: {
      change: (event) => {
        const chosen = [...event.target.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
        event.target.value = "";
        add(chosen);
      },
    },
  });
  const files = pick({ "aria-label": texts.upload.files, accept: "image/*,.heic,.avif,.jxl,.dng,.cr2,.nef,.arw" });
  const folder = pick({ "aria-label": texts.upload.folder, webkitdirectory: true });
  const zone = h(
    "div", { class: "drop-zone" },
    icon("plus"), h("p", {}, isTouch ? texts.upload.ofDevice : texts.upload.drop),
    h(
      "div", { class: "ways" },
      h("button", { class: "action first", type: "button", on: { click: () => files.click() } }, texts.upload.choose),
      h("button", { class: "action", type: "button", on: { click: () => folder.click() } }, texts.upload.chooseFolder),
    ),
    files, folder,
  );
  const bar = h("progress", { class: "upload-progress", max: 1, value: 0, hidden: true, "aria-label": texts.upload.sent });
  const status = h("p", { class: "upload-status", role: "status" });
  const stop = h("button", { class: "action", type: "button", hidden: true, on: { click: () => pending.abort() } }, texts.upload.stop);
  const failures = h("ul", { class: "upload-failures", "aria-label": texts.upload.failures, hidden: true });
  const dialog = createDialog(texts.upload.title, "upload-title", zone, bar, status, stop, failures);
  let pending = new AbortController();
  let running = false;

  zone.addEventListener("dragover", (event) => event.preventDefault());
  zone.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    add(await filesOf(event.dataTransfer));
  });

  function fail(path, reason) {
    failures.hidden = false;
    failures.append(h("li", {}, isolated(path), `: ${reason}`));
  }

  async function add(chosen) {
    if (running || !chosen.length) return;
    running = true;
    pending = new AbortController();
    failures.replaceChildren();
    failures.hidden = true;
    const pictures = chosen.filter(({ path, file }) => {
      const may = mayBePicture(file);
      if (!may && !/(^|\/)\./.test(path)) fail(path, texts.upload.isNoPicture);
      return may;
    });
    bar.hidden = stop.hidden = !pictures.length;
    bar.max = pictures.length || 1;
    let sent = 0;
    let stored = 0;
    let known = 0;
    const say = (beginning) => {
      bar.value = sent;
      status.textContent = texts.upload.progress(beginning, stored, known);
    };
    try {
      for (const part of parts(pictures)) {
        say(texts.upload.sending(sent + 1, pictures.length));
        const items = part.map(({ path, file }) => ({
          uri: `${ROOT}/${path}`, root: ROOT, relative: path, size: file.size, mtime_ns: file.lastModified * 1e6,
        }));
        const result = await putItems(items, part.map(({ file }) => file), page.collection(), pending.signal);
        for (const item of result.items) {
          if (item.status === "failed") fail(item.uri.slice(ROOT.length + 1), item.reason);
          else if (item.status === "stored") stored += 1;
          else known += 1;
        }
        sent += part.length;
      }
      say(texts.upload.done);
    } catch (error) {
      say(texts.upload.stopped);
      if (!pending.signal.aborted) status.textContent += `. ${quoted(error.message)}`;
    }
    bar.hidden = stop.hidden = true;
    running = false;
    if (stored) page.onAdded();
  }

  return {
    open() {
      if (!running) status.textContent = "";
      dialog.showModal();
    },
  };
}
