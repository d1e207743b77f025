// Move among results with the arrow keys (roving tabindex), and list the keyboard shortcuts.

import { createDialog } from "../shared/dialogs.js";
import { h, isTyping } from "../shared/dom.js";
import { texts } from "../texts/en/search.js";

const SHORTCUTS = [
  [["/"], texts.shortcuts.box],
  [["↓"], texts.shortcuts.results],
  [["←", "→", "↑", "↓"], texts.shortcuts.move],
  [["Enter"], texts.shortcuts.open],
  [["m"], texts.shortcuts.more],
  [["n"], texts.shortcuts.not],
  [["x"], texts.shortcuts.select],
  [["←", "→"], texts.shortcuts.step],
  [["+", "−", "0"], texts.shortcuts.zoom],
  [["Esc"], texts.shortcuts.close],
  [["?"], texts.shortcuts.help],
];

/** @returns {() => void}  shows the dialog with the shortcuts */
export function createShortcutsDialog() {
  const dialog = createDialog(
    texts.shortcuts.title, "shortcuts-title",
    h(
      "dl", { class: "shortcuts" },
      ...SHORTCUTS.flatMap(([keys, words]) => [
        h("dt", {}, ...keys.map((key) => h("kbd", {}, key))),
        h("dd", {}, words),
      ]),
    ),
  );
  return () => {
    if (!document.querySelector("dialog[open]")) dialog.showModal();
  };
}

/**
 * Listen to the keys that work everywhere on the page; Escape leaves a field first.
 * @param {Object<string, () => void>} actions  by the name of the key
 */
export function listenToKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
    } else if (actions[event.key]) {
      if (event.key !== "Escape") event.preventDefault();
      actions[event.key]();
    }
  });
}

/**
 * Let the arrow keys move the focus among links. Only one link at a time is in the Tab order.
 * @param {HTMLElement} container
 * @param {string} selector  of the links in it
 * @param {() => void} onLeave  called when the up arrow leads out of the container
 * @returns {() => void}  call it after links were added: puts the first link in the Tab order if
 *   none is
 */
export function moveWithArrowKeys(container, selector, onLeave) {
  const links = () => [...container.querySelectorAll(selector)].filter((link) => link.offsetParent !== null);

  container.addEventListener("focusin", (event) => {
    const link = event.target.closest(selector);
    if (!link) return;
    for (const other of container.querySelectorAll(`${selector}[tabindex="0"]`)) other.tabIndex = -1;
    link.tabIndex = 0;
  });
  container.addEventListener("keydown", (event) => {
    const link = event.target.closest(selector);
    if (!link || event.altKey || event.ctrlKey || event.metaKey) return;
    const all = links();
    const at = all.indexOf(link);
    const next = {
      ArrowLeft: () => all[at - 1],
      ArrowRight: () => all[at + 1],
      ArrowUp: () => nearest(all, link, -1),
      ArrowDown: () => nearest(all, link, 1),
      Home: () => all[0],
      End: () => all.at(-1),
    }[event.key];
    if (!next) return;
    event.preventDefault();
    const to = next();
    if (to) {
      to.focus({ preventScroll: true });
      to.scrollIntoView({ block: "nearest" });
    } else if (event.key === "ArrowUp") {
      onLeave();
    }
  });
  return () => {
    const first = container.querySelector(selector);
    if (first && !container.querySelector(`${selector}[tabindex="0"]`)) first.tabIndex = 0;
  };
}

/** Focus the link of a hit, or the first link. @returns {boolean} whether there is one */
export function focusLink(container, id) {
  const links = [...container.querySelectorAll("a")];
  const link = id ? links.find((one) => one.dataset.id === id) : links[0];
  link?.focus({ preventScroll: true });
  link?.scrollIntoView({ block: "nearest" });
  return Boolean(link);
}

/** The link in the next row (direction 1) or the previous one (-1) whose middle is nearest. */
function nearest(all, link, direction) {
  const from = link.getBoundingClientRect();
  const middle = (from.left + from.right) / 2;
  let best;
  let least = Infinity;
  for (const other of all) {
    const box = other.getBoundingClientRect();
    const down = (box.top - from.top) * direction;
    if (down < from.height / 2) continue;
    const away = down * 4 + Math.abs((box.left + box.right) / 2 - middle);
    if (away < least) {
      least = away;
      best = other;
    }
  }
  return best;
}
