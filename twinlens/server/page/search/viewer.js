// Show a hit in a dialog: the large picture, its captions, metadata and paths.

import { thumbnail } from "../shared/api.js";
import { isolated } from "../shared/bidi.js";
import { trapFocus } from "../shared/dialogs.js";
import { copy, h, hidden, icon, isTyping, toast } from "../shared/dom.js";
import { hasCaption, marked, matchBadge, perhaps, titleOf } from "../shared/hits.js";
import { proposalFor } from "../shared/proposals.js";
import { texts } from "../texts/en/search.js";
import { texts as shared } from "../texts/en/shared.js";
import { createDetails } from "./details.js";
import { createExplanation } from "./explanation.js";
import { createQuestion } from "./question.js";
import { createZoom } from "./zoom.js";

/** Pixels that a finger must move for a swipe. */
const SWIPE = 60;

/**
 * @param {{collection: () => string, onMove: (step: number) => void, onClose: () => void,
 *   onMore: (hit: object) => void, onNot: (hit: object) => void,
 *   onFilter: (filter: string) => void, onGone: () => void}} handlers
 */
export function createViewer(handlers) {
  const image = h("img", { class: "large", alt: "" });
  const none = h("p", { class: "stage-none", hidden: true });
  const previous = step("left", texts.viewer.previous, -1);
  const next = step("right", texts.viewer.next, 1);
  const counter = h("p", { class: "counter", "aria-live": "polite" });
  const close = h("button", { class: "icon-button close", type: "button", title: texts.viewer.close }, icon("close"), hidden(shared.close));
  const stage = h("div", { class: "stage" }, image, none, previous, next, counter);
  const facts = h("div", { class: "facts" });
  const why = createExplanation(handlers);
  const question = createQuestion(handlers);
  const details = h("div", { class: "details" });
  const panel = h(
    "div", { class: "panel", tabindex: 0, role: "region", "aria-label": texts.viewer.details },
    close, facts, why.element, question.element, details,
  );
  const dialog = h(
    "dialog", { class: "viewer", "aria-labelledby": "viewer-title" },
    stage, panel,
  );
  document.body.append(dialog);
  const zoom = createZoom(stage, image);
  let shown = null; // the hit

  function step(name, words, by) {
    return h(
      "button", { class: `step ${name}`, type: "button", title: words, on: { click: () => handlers.onMove(by) } },
      icon(name), hidden(words),
    );
  }

  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    zoom.reset();
    image.removeAttribute("src");
    question.show("");
    handlers.onClose();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || (event.target === stage && !zoom.isZoomed())) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Tab") {
      trapFocus(dialog, event);
      return;
    }
    const action = isTyping(event.target) ? null : {
      ArrowLeft: () => handlers.onMove(-1),
      ArrowRight: () => handlers.onMove(1),
      m: () => shown.image_id && handlers.onMore(shown),
      n: () => handlers.onNot(shown),
      "+": () => zoom.zoom(1),
      "=": () => zoom.zoom(1),
      "-": () => zoom.zoom(-1),
      0: () => zoom.zoom(0),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  onSwipe(stage, (by) => zoom.isZoomed() || handlers.onMove(by));

  return {
    /**
     * Show a hit.
     * @param {object} hit
     * @param {{first: boolean, last: boolean, position: string, link: string, neighbours: object[],
     *   query: object}} where
     */
    show(hit, where) {
      shown = hit;
      zoom.reset();
      previous.disabled = where.first;
      next.disabled = where.last;
      counter.textContent = where.position;
      showPicture(image, none, hit);
      const replaced = [facts, details].some((part) => part.contains(document.activeElement));
      const focused = replaced ? document.activeElement.textContent : null;
      facts.replaceChildren(...about(hit, where.link, handlers));
      why.show(hit, where.query);
      question.show(hit.image_id);
      details.replaceChildren(createDetails(hit, handlers.collection(), handlers));
      propose(hit, image, facts, handlers.collection());
      panel.scrollTop = 0;
      for (const neighbour of where.neighbours) {
        if (neighbour?.thumbnail) new Image().src = thumbnail(neighbour.thumbnail, 640);
      }
      const was = dialog.open;
      if (!was) dialog.showModal();
      // Texts have a size only now that the dialog is open.
      for (const fold of facts.querySelectorAll(".unfold")) {
        fold.hidden = fold.previousSibling.scrollHeight <= fold.previousSibling.clientHeight + 1;
      }
      if (was && focused === null && !document.activeElement.disabled) return;
      // The element that had the focus is gone or disabled: focus its successor.
      const again = [...panel.querySelectorAll("button, a")].find((one) => one.textContent === focused);
      (again ?? close).focus();
    },
    close() {
      if (dialog.open) dialog.close();
    },
  };
}

function showPicture(image, none, hit) {
  const { width, height } = hit.metadata ?? {};
  const address = hit.image;
  image.hidden = !address;
  none.hidden = Boolean(address);
  none.textContent = hit.image_id ? "" : texts.viewer.noPicture;
  if (!address) return;
  // Show the thumbnail until the picture has loaded.
  image.alt = wordsOf(hit);
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
    none.textContent = texts.viewer.fileMissing;
  };
  large.src = address;
}

/** What names a hit: its text, or its picture's title. */
const wordsOf = (hit) => (hit.target === "texts" ? marked(hit, hit.text) : titleOf(hit));

/** Show what a picture without captions may show: a guess, whose probability is none of the hit's. */
async function propose(hit, image, facts, collection) {
  if (hit.target === "texts" || !hit.image_id || hasCaption(hit)) return;
  const [title, fold] = facts.children; // replaced when another hit is shown
  const proposal = await proposalFor(hit.image_id, collection);
  if (!proposal || facts.firstChild !== title) return;
  image.alt = perhaps(proposal.text);
  fold.after(h("p", { class: "viewer-proposal" }, perhaps(proposal.text)));
}

function about(hit, link, handlers) {
  const title = wordsOf(hit);
  const captions = (hit.captions ?? []).filter((caption) => caption !== title && marked(hit, caption) !== title);
  const act = (name, words, run, kind = "action") =>
    h("button", { class: kind, type: "button", on: { click: run } }, icon(name), h("span", {}, words));
  return [
    ...folding("h2", { class: "viewer-title", id: "viewer-title" }, title),
    hit.relevance !== undefined && h("p", { class: "viewer-relevance" }, matchBadge(hit)),
    captions.length > 0 && h("ul", { class: "captions", "aria-label": texts.viewer.captions }, ...captions.map((caption) => h("li", {}, ...folding("p", {}, caption)))),
    h(
      "div", { class: "actions" },
      hit.image_id && act("alike", shared.moreLikeThis, () => handlers.onMore(hit), "action first"),
      act("unlike", texts.viewer.notLikeThis, () => handlers.onNot(hit)),
      act("link", texts.viewer.copyLink, async () => {
        const address = new URL(link, location.href).href;
        toast((await copy(address)) ? texts.viewer.linkCopied : address);
      }),
      hit.image && h("a", { class: "action", href: hit.image, target: "_blank", rel: "noopener" }, icon("out"), h("span", {}, texts.viewer.openOriginal)),
    ),
  ].filter(Boolean);
}

/** A text cut after four lines, and a button that shows or hides the rest. */
function folding(tag, options, words) {
  const text = h(tag, { ...options, class: `${options.class ?? ""} clamp` }, isolated(words));
  const fold = h("button", {
    class: "unfold", type: "button", "aria-expanded": "false", hidden: true,
    on: {
      click: () => {
        const folded = text.classList.toggle("clamp");
        fold.textContent = folded ? texts.viewer.more : texts.viewer.less;
        fold.setAttribute("aria-expanded", String(!folded));
      },
    },
  }, texts.viewer.more);
  return [text, fold];
}

/** Call `onMove` with 1 for a swipe to the left, -1 for one to the right. */
function onSwipe(stage, onMove) {
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

