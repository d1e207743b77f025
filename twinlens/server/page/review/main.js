// Run the review page: list flagged pictures, and store the decisions about them.

import { isolated, isolatedPath, plain, quoted } from "../shared/bidi.js";
import { offerCollections } from "../shared/collection-select.js";
import { createWriteKeyDialog } from "../shared/dialogs.js";
import { $, h, toast } from "../shared/dom.js";
import { nameOf, titleOf } from "../shared/hits.js";
import { number } from "../shared/language.js";
import { onWriteLocked } from "../shared/write-api.js";
import { texts } from "../texts/en/review.js";
import { decide, listCollections, reviewPage, thumbnailBlob } from "./review-api.js";

let collection = new URLSearchParams(location.search).get("collection") ?? "";
let next = "";
let shown = 0;
let run = 0;

function card(item) {
  const picture = h("div", { class: "review-picture" });
  thumbnailBlob(item.thumbnail).then((url) => {
    const image = h("img", { src: url, alt: plain(titleOf(item)) });
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    picture.replaceChildren(image);
  }, (error) => picture.replaceChildren(h("p", {}, isolated(error.message))));
  const flags = item.flags.length
    ? item.flags.map(({ concept, score }) => h("li", {}, isolated(concept), ` ${number(score, 1)}`))
    : [h("li", {}, texts.noConcept)];
  const release = h("button", { class: "action", type: "button" }, item.held ? texts.release : texts.dismiss);
  const hold = h("button", { class: "action", type: "button" }, item.held ? texts.keep : texts.hold);
  const status = h("p", {});
  const element = h(
    "li", { class: `review-card${item.held ? " held" : ""}`, data: { id: item.id } },
    picture,
    h("div", { class: "review-facts" },
      h("h2", { class: "clamp" }, isolated(titleOf(item))), h("p", { class: "review-path" }, isolatedPath(item.path)),
      h("ul", { class: "review-flags", "aria-label": texts.concepts }, ...flags), status),
    h("div", { class: "review-buttons" }, release, hold),
  );
  status.textContent = statusOf(item);
  const store = async (decision) => {
    release.disabled = hold.disabled = true;
    try {
      await decide(item.id, decision, collection);
    } catch (error) {
      toast(error.message);
      release.disabled = hold.disabled = false;
      return;
    }
    toast(texts.stored[decision](quoted(nameOf(item.path))));
    const following = element.nextElementSibling ?? element.previousElementSibling;
    if ($("state").value === "open") {
      element.remove();
      shown -= 1;
      summarise();
      (following?.querySelector("button") ?? $("list")).focus();
    } else {
      const changed = card({ ...item, review: decision, held: decision === "held" });
      element.replaceWith(changed);
      changed.querySelector("button").focus();
    }
  };
  release.addEventListener("click", () => store("released"));
  hold.addEventListener("click", () => store("held"));
  return element;
}

function statusOf(item) {
  const policy = quoted(item.policy);
  if (item.review) return texts.decided[item.review === "held" ? "held" : "released"](policy);
  return item.held ? texts.heldBy(policy) : texts.flaggedBy(policy);
}

function summarise() {
  $("status").textContent = shown ? texts.listed(shown, Boolean(next)) : texts.nothing;
}

async function load(fresh) {
  const mine = ++run;
  if (fresh) {
    next = "";
    shown = 0;
    $("list").replaceChildren();
    $("more").hidden = true;
    $("status").textContent = texts.loading;
  }
  try {
    const page = await reviewPage($("state").value, next, collection);
    if (mine !== run) return;
    next = page.items.length < 100 ? "" : page.next;
    shown += page.items.length;
    $("list").append(...page.items.map(card));
    $("more").hidden = !next;
    summarise();
  } catch (error) {
    if (mine === run) $("status").textContent = error.message;
  }
}

const parameters = () => (collection ? `?${new URLSearchParams({ collection })}` : "");

function showLinks() {
  $("results").href = $("home").href = `/${parameters()}`;
}

onWriteLocked(createWriteKeyDialog());
$("state").addEventListener("change", () => load(true));
$("more").addEventListener("click", () => load(false));
showLinks();
// The key that the list asks for is needed for the collections, too.
load(true).then(listCollections).then((listed) => offerCollections(listed, collection, (name) => {
  collection = name;
  history.replaceState(null, "", `/review${parameters()}`);
  showLinks();
  load(true);
}), () => {});
