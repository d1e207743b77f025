// Arrow keys in a collection of links: one of them takes part in the Tab order, the arrows move it.

/**
 * @param {HTMLElement} container
 * @param {string} selector  of the links in it
 * @param {() => void} leave  called where the up arrow leads out
 * @returns {{reset: () => void, hold: (link: HTMLElement) => void}}
 */
export function roving(container, selector, leave) {
  const links = () => [...container.querySelectorAll(selector)].filter((link) => link.offsetParent !== null);

  function hold(link) {
    for (const other of container.querySelectorAll(`${selector}[tabindex="0"]`)) other.tabIndex = -1;
    link.tabIndex = 0;
  }

  function reset() {
    const first = container.querySelector(selector);
    if (first && !container.querySelector(`${selector}[tabindex="0"]`)) first.tabIndex = 0;
  }

  container.addEventListener("focusin", (event) => {
    const link = event.target.closest(selector);
    if (link) hold(link);
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
      leave();
    }
  });
  return { reset, hold };
}

/** The link in the next row, or the one before, whose middle is nearest. */
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
