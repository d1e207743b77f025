// Show pictures by month. Only what is near the window has tiles; the rest is empty space of about
// the right height, so that any number of pictures can be scrolled through and jumped to.

import { isAbort } from "../shared/api.js";
import { h } from "../shared/dom.js";
import { language } from "../shared/language.js";
import { texts } from "../texts/en/search.js";
import { texts as shared } from "../texts/en/shared.js";
import { GAP, justify, ratioOf, rowHeight } from "./justified-layout.js";
import { focusLink, moveWithArrowKeys } from "./keyboard.js";
import { createTile } from "./tiles.js";

/** Pictures of one block, which is filled and emptied as a whole. */
const BLOCK = 120;
/** A block is filled when it is this near to the window, in pixels, and emptied farther away. */
const NEAR = 1400;
const FAR = 5000;
/** The ratio of a picture that is not known yet. */
const USUAL_RATIO = 1.4;

const monthNames = new Intl.DateTimeFormat(language, { month: "long", year: "numeric", timeZone: "UTC" });

/** "July 2019" for "2019-07". */
export const monthName = (month) => (month ? monthNames.format(new Date(`${month}-01T00:00:00Z`)) : texts.timeline.noDate);

/**
 * @param {HTMLElement} container
 * @param {import("./tiles.js").Handlers & {onLeave: () => void, onError: (error: object) => void}} handlers
 */
export function createTimelineGrid(container, handlers) {
  const jump = h("select", { "aria-label": texts.timeline.jump, on: { change: () => jumpTo(jump.value) } });
  const years = h("nav", { class: "years", "aria-label": texts.timeline.years, hidden: true });
  const bar = h("div", { class: "timeline-bar" }, h("label", { class: "select" }, jump));
  const list = h("div", { class: "months" });
  const element = h("div", { class: "timeline", hidden: true }, bar, list, years);
  container.append(element);
  const updateTabOrder = moveWithArrowKeys(list, "a", handlers.onLeave);
  let listing = null;
  let blocks = [];
  let pending = new AbortController();
  let width = 0;
  let target = null; // the month that was jumped to, until the reader moves

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) fill(blockOf(entry.target));
  }, { rootMargin: `${NEAR}px 0px` });
  const far = new IntersectionObserver((entries) => {
    for (const entry of entries) if (!entry.isIntersecting) empty(blockOf(entry.target));
  }, { rootMargin: `${FAR}px 0px` });

  const blockOf = (place) => blocks[Number(place.dataset.block)];

  /** The height of a block that was never shown. */
  function guess(number) {
    const row = rowHeight(width) + GAP;
    const inRow = Math.max(1, width / (USUAL_RATIO * row));
    return Math.ceil(number / inRow) * row - GAP;
  }

  function createBlock(from, to) {
    const height = listing.heights.get(from) ?? guess(to - from);
    const place = h("ul", {
      class: "grid block", role: "list", "aria-label": texts.timeline.block, data: { block: blocks.length },
    });
    place.style.height = `${height}px`;
    blocks.push({ from, to, place, filled: false, tiles: [] });
    return place;
  }

  async function fill(block) {
    if (!block || block.filled) return;
    block.filled = true;
    const mine = listing;
    try {
      await mine.load(block.from, block.to, pending.signal);
    } catch (error) {
      block.filled = false;
      if (!isAbort(error) && mine === listing) handlers.onError(error);
      return;
    }
    if (mine !== listing || !block.filled) return;
    const hits = listing.hits.slice(block.from, block.to).filter(Boolean);
    block.ratios = hits.map((hit) => ratioOf(hit.metadata));
    block.tiles = hits.map((hit) => createTile(hit, handlers));
    block.place.replaceChildren(...block.tiles.map((tile) => tile.element));
    arrange(block);
    updateTabOrder();
  }

  function empty(block) {
    // What has the focus stays.
    if (!block?.filled || block.place.contains(document.activeElement)) return;
    block.filled = false;
    block.tiles = [];
    block.place.replaceChildren();
  }

  function arrange(block) {
    const { boxes, height } = justify(block.ratios, {
      width, target: rowHeight(width), gap: GAP, complete: true, balance: true, alone: false,
    });
    block.tiles.forEach((tile, at) => tile.place(boxes[at], 0, false));
    block.place.style.height = `${height}px`;
    listing.heights.set(block.from, height);
    // Blocks above have another height than guessed.
    target?.scrollIntoView({ block: "start" });
  }

  new ResizeObserver(() => {
    if (!listing || list.clientWidth === width || !list.clientWidth) return;
    width = list.clientWidth;
    listing.heights.clear();
    for (const block of blocks) {
      if (block.tiles.length) arrange(block);
      else block.place.style.height = `${guess(block.to - block.from)}px`;
    }
  }).observe(list);

  function jumpTo(month) {
    const heading = list.querySelector(`[data-month="${CSS.escape(month)}"]`);
    target = heading;
    heading?.scrollIntoView({ block: "start" });
    heading?.focus({ preventScroll: true });
  }

  function drawMonths() {
    const byYear = new Map();
    for (const one of listing.months) {
      const year = one.month.slice(0, 4) || texts.timeline.noDate;
      byYear.set(year, [...(byYear.get(year) ?? []), one]);
    }
    jump.replaceChildren(...[...byYear].map(([year, months]) => h(
      "optgroup", { label: year },
      ...months.map(({ month, count: number }) =>
        h("option", { value: month }, texts.timeline.month(monthName(month), number))),
    )));
    years.hidden = byYear.size < 2;
    years.replaceChildren(...[...byYear].map(([year, months]) => h(
      "button", { class: "year", type: "button", on: { click: () => jumpTo(months[0].month) } }, year,
    )));
    bar.hidden = listing.months.length < 2;
  }

  for (const moves of ["wheel", "touchmove", "pointerdown", "keydown"]) {
    window.addEventListener(moves, () => {
      target = null;
    }, { passive: true });
  }

  let following = 0;
  window.addEventListener("scroll", () => {
    if (!listing || element.hidden || following) return;
    following = requestAnimationFrame(() => {
      following = 0;
      showPlace();
    });
  }, { passive: true });

  /** Show in the list to jump by which month is at the top of the window. */
  function showPlace() {
    // On the start page, the pictures begin below the examples, which the years must not cover.
    const starting = document.body.classList.contains("starting");
    const from = starting ? parseFloat(getComputedStyle(years).top) : innerHeight / 2;
    years.classList.toggle("shown", list.getBoundingClientRect().top < from);
    const headings = list.querySelectorAll("[data-month]");
    const top = bar.getBoundingClientRect().bottom + 40;
    let low = 0;
    let high = headings.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (headings[middle].getBoundingClientRect().top <= top) low = middle;
      else high = middle - 1;
    }
    if (headings[low] && document.activeElement !== jump) jump.value = headings[low].dataset.month;
  }

  function clear() {
    near.disconnect();
    far.disconnect();
    pending.abort();
    listing = null;
    target = null;
    blocks = [];
    list.replaceChildren();
    element.hidden = true;
  }

  return {
    /** Show a listing that has begun to load. */
    show(next) {
      clear();
      pending = new AbortController();
      listing = next;
      element.hidden = false;
      width = list.clientWidth;
      drawMonths();
      list.append(...listing.months.flatMap(({ month, count: number, offset }) => {
        const places = [];
        for (let from = offset; from < offset + number; from += BLOCK) {
          places.push(createBlock(from, Math.min(from + BLOCK, offset + number)));
        }
        return [
          h("h2", { class: "month", tabindex: -1, data: { month } }, monthName(month),
            h("span", { class: "month-count" }, shared.pictures(number))),
          ...places,
        ];
      }));
      for (const block of blocks) {
        near.observe(block.place);
        far.observe(block.place);
      }
      showPlace();
    },
    clear,
    /** Focus a picture by its id, or the first one. @returns {boolean} whether it is shown */
    focus: (id) => focusLink(list, id),
    isEmpty: () => !listing,
  };
}
