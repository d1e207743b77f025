// A picture, large, with everything that is known about it.

import { thumbnail } from "../shared/api.js";
import { copy, h, hidden, icon, toast } from "../shared/dom.js";
import { titleOf } from "./tiles.js";
import { sign } from "../shared/hits.js";
import { literal } from "./filter-suggestions.js";

/** Shown in a way of their own, or of no interest to people. */
const APART = new Set(["relative_path", "width", "height", "bytes", "mtime", "latitude", "longitude"]);
/** Pixels that a finger must move. */
const SWIPE = 60;

/**
 * @param {{onMove: (step: number) => void, onClose: () => void, onMore: (hit: object) => void,
 *   onNot: (hit: object) => void, onFilter: (filter: string) => void}} handlers
 */
export function createViewer(handlers) {
  const image = h("img", { class: "large", alt: "" });
  const none = h("p", { class: "stage-none", hidden: true });
  const back = step("left", "The one before", -1);
  const on = step("right", "The next", 1);
  const counter = h("p", { class: "counter", "aria-live": "polite" });
  const close = h("button", { class: "icon-button close", type: "button", title: "Close (Esc)" }, icon("close"), hidden("Close"));
  const stage = h("div", { class: "stage" }, image, none, back, on, counter);
  const facts = h("div", { class: "facts" });
  const dialog = h(
    "dialog", { class: "viewer", "aria-labelledby": "viewer-title" },
    stage, h("div", { class: "panel", tabindex: 0, role: "region", "aria-label": "About this" }, close, facts),
  );
  document.body.append(dialog);

  function step(name, words, by) {
    return h(
      "button", { class: `step ${name}`, type: "button", title: words, on: { click: () => handlers.onMove(by) } },
      icon(name), hidden(words),
    );
  }

  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    image.removeAttribute("src");
    handlers.onClose();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target === stage) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      handlers.onMove(event.key === "ArrowLeft" ? -1 : 1);
    } else if (event.key === "Tab") {
      trap(dialog, event);
    }
  });
  swipes(stage, handlers.onMove);

  return {
    /**
     * Show a hit.
     * @param {object} hit
     * @param {{first: boolean, last: boolean, place: string, link: string, neighbours: object[]}} where
     */
    show(hit, where) {
      back.disabled = where.first;
      on.disabled = where.last;
      counter.textContent = where.place;
      showPicture(image, none, hit);
      const held = facts.contains(document.activeElement) ? document.activeElement.textContent : null;
      facts.replaceChildren(...about(hit, where.link, handlers));
      facts.parentElement.scrollTop = 0;
      for (const neighbour of where.neighbours) {
        if (neighbour?.thumbnail) new Image().src = thumbnail(neighbour.thumbnail, 640);
      }
      const was = dialog.open;
      if (!was) dialog.showModal();
      // How long a text is shows only now.
      for (const fold of facts.querySelectorAll(".unfold")) {
        fold.hidden = fold.previousSibling.scrollHeight <= fold.previousSibling.clientHeight + 1;
      }
      if (was && held === null && !document.activeElement.disabled) return;
      // Whatever had the focus is not there any more, or cannot have it.
      const again = [...facts.querySelectorAll("button, a")].find((one) => one.textContent === held);
      (again ?? close).focus();
    },
    close() {
      if (dialog.open) dialog.close();
    },
    isOpen: () => dialog.open,
  };
}

function showPicture(image, none, hit) {
  const { width, height } = hit.metadata ?? {};
  const address = hit.image;
  image.hidden = !address;
  none.hidden = Boolean(address);
  none.textContent = hit.image_id ? "" : "This caption describes no picture.";
  if (!address) return;
  // The thumbnail is there at once; the picture takes its place when it has come.
  image.alt = titleOf(hit);
  image.style.setProperty("--ratio", Number(width) > 0 && Number(height) > 0 ? String(width / height) : "auto");
  image.style.setProperty("--most", Number(width) > 0 ? `${Math.max(320, width * 2)}px` : "100%");
  image.src = thumbnail(hit.thumbnail, 640) ?? address;
  const large = new Image();
  large.addEventListener("load", () => {
    if (image.dataset.of === address) image.src = address;
  });
  image.dataset.of = address;
  image.onerror = () => {
    if (image.dataset.of !== address) return;
    image.hidden = true;
    none.hidden = false;
    none.textContent = "The picture is not where it was, or cannot be shown.";
  };
  large.src = address;
}

function about(hit, link, handlers) {
  const isText = hit.target === "texts";
  const title = isText ? hit.text : titleOf(hit);
  const captions = (hit.captions ?? []).filter((caption) => caption !== title);
  const act = (name, words, run, kind = "action") =>
    h("button", { class: kind, type: "button", on: { click: run } }, icon(name), h("span", {}, words));
  return [
    ...folding("h2", { class: "viewer-title", id: "viewer-title" }, title),
    hit.relevance !== undefined && h("p", { class: "viewer-sign" }, sign(hit.relevance)),
    captions.length > 0 && h("ul", { class: "captions", "aria-label": "Captions" }, ...captions.map((caption) => h("li", {}, ...folding("p", {}, caption)))),
    h(
      "div", { class: "actions" },
      hit.image_id && act("alike", "More like this", () => handlers.onMore(hit), "action first"),
      act("unlike", "Not like this", () => handlers.onNot(hit)),
      act("link", "Copy link", async () => {
        const address = new URL(link, location.href).href;
        toast((await copy(address)) ? "The link is on the clipboard" : address);
      }),
      hit.image && h("a", { class: "action", href: hit.image, target: "_blank", rel: "noopener" }, icon("out"), h("span", {}, "Open original")),
    ),
    table(hit, handlers),
  ].filter(Boolean);
}

/** A text of which four lines are shown, and a button that shows the rest or takes it away. */
function folding(tag, options, words) {
  const text = h(tag, { ...options, class: `${options.class ?? ""} folded` }, words);
  const fold = h("button", {
    class: "unfold", type: "button", "aria-expanded": "false", hidden: true,
    on: {
      click: () => {
        const folded = text.classList.toggle("folded");
        fold.textContent = folded ? "more" : "less";
        fold.setAttribute("aria-expanded", String(!folded));
      },
    },
  }, "more");
  return [text, fold];
}

function table(hit, handlers) {
  const data = hit.metadata ?? {};
  const rows = [];
  if (data.width > 0 && data.height > 0) rows.push(["Size", `${data.width} × ${data.height} pixels`]);
  if (data.bytes > 0) rows.push(["File", bytes(data.bytes)]);
  if (data.mtime > 0 && !data.taken) rows.push(["Changed", new Date(data.mtime * 1000).toLocaleDateString("en", { dateStyle: "medium" })]);
  if (Number.isFinite(data.latitude) && Number.isFinite(data.longitude)) {
    rows.push(["Place", `${data.latitude.toFixed(4)}, ${data.longitude.toFixed(4)}`]);
  }
  for (const [name, value] of Object.entries(data)) {
    if (APART.has(name) || value === "" || value === null) continue;
    rows.push([spoken(name), String(value), `${name} == ${literal(value)}`]);
  }
  for (const path of new Set([hit.path, ...(hit.paths ?? [])].filter(Boolean))) rows.push(["Path", path]);
  return h(
    "dl", { class: "table" },
    ...rows.flatMap(([name, value, filter]) => [
      h("dt", {}, name),
      h(
        "dd", { class: name === "Path" ? "path" : "" },
        filter
          ? h("button", { class: "value", type: "button", title: `Only where ${filter}`, on: { click: () => handlers.onFilter(filter) } }, value)
          : name === "Path" ? breakable(value) : value,
      ),
    ]),
  );
}

/** A path that may go on in the next line after each of its parts. */
function breakable(path) {
  const parts = path.split(/(?<=[\\/])/);
  return h("span", {}, ...parts.flatMap((part) => [part, h("wbr")]));
}

const spoken = (name) => {
  const words = name.replaceAll("_", " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
};

function bytes(number) {
  if (number < 1000) return `${number} bytes`;
  return number < 1e6 ? `${Math.round(number / 1000)} kB` : `${(number / 1e6).toFixed(1)} MB`;
}

/** Keep Tab within a dialog: browsers let it go on to their own buttons. */
export function trap(dialog, event) {
  const stops = [...dialog.querySelectorAll("button, a[href], input, [tabindex='0']")].filter(
    (one) => !one.disabled && one.offsetParent !== null,
  );
  const edge = event.shiftKey ? stops[0] : stops.at(-1);
  if (document.activeElement === edge) {
    event.preventDefault();
    (event.shiftKey ? stops.at(-1) : stops[0]).focus();
  }
}

function swipes(stage, onMove) {
  let from = null;
  stage.addEventListener("touchstart", (event) => {
    from = event.touches.length === 1 ? event.touches[0].clientX : null;
  }, { passive: true });
  stage.addEventListener("touchend", (event) => {
    const moved = from === null ? 0 : event.changedTouches[0].clientX - from;
    from = null;
    if (Math.abs(moved) > SWIPE) onMove(moved > 0 ? -1 : 1);
  });
}

