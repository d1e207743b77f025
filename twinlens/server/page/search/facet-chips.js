// Show the values of fields as chips. Choosing one narrows the filter to it; further values of the
// same field widen it to any of them.

import { facets, isAbort } from "../shared/api.js";
import { isolated, quoted } from "../shared/bidi.js";
import { h, hidden, icon } from "../shared/dom.js";
import { anyOf, clauses, joined, withoutClause } from "../shared/filters.js";
import { readable } from "../shared/hits.js";
import { number } from "../shared/language.js";
import { texts } from "../texts/en/search.js";

/**
 * @param {{onFilter: (where: string) => void}} handlers
 * @returns {{element: HTMLElement, show: (where: string, collection: string) => void,
 *   forget: () => void}}  show: fetches what the filter leaves, unless it is shown already
 */
export function createFacetChips({ onFilter }) {
  const chosen = h("ul", { class: "chosen", "aria-label": texts.filter.chosen });
  const list = h("ul", { class: "facets", "aria-label": texts.filter.narrow });
  const element = h("div", { class: "facet-rows" }, chosen, list);
  /** The names of clauses that were chosen here: "Year 2019". */
  const names = new Map();
  let shown = "";
  let current = ""; // the filter
  let pending = new AbortController();

  function drawChosen(where) {
    const active = clauses(where);
    chosen.hidden = !active.length;
    chosen.replaceChildren(...active.map((clause) => {
      const name = names.get(clause) ?? clause;
      return h("li", {}, h(
        "button", {
          class: "chip", type: "button", title: quoted(clause), "aria-label": texts.filter.remove(quoted(name)),
          on: { click: () => onFilter(withoutClause(where, clause)) },
        },
        isolated(name, { class: "chip-text" }), icon("close"),
      ));
    }));
    return new Set(active);
  }

  /**
   * Choose a value of a facet, or no longer; the other values stay as they are. The chips may be of
   * an earlier filter, while the server counts what the current one leaves.
   */
  function toggle(facet, value) {
    const kept = clauses(current).filter((one) => !facet.clauses.includes(one));
    value.chosen = !value.chosen;
    facet.clauses = [anyOf(facet.field, facet.values.filter((one) => one.chosen))].filter(Boolean);
    onFilter(joined([...kept, ...facet.clauses]));
  }

  function drawFacets(found) {
    const open = list.querySelector("details[open]")?.dataset.field;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.value : undefined;
    list.replaceChildren(...found.map((facet) => {
      const { field, values, more } = facet;
      const name = readable(field);
      const chosen = values.filter((one) => one.chosen).map(({ value }) => value);
      if (facet.clauses.length === 1 && chosen.length) names.set(facet.clauses[0], `${name} ${chosen.join(", ")}`);
      const options = values.map((one) => h("li", {}, h(
        "button", {
          class: "facet-value", type: "button", "aria-pressed": String(one.chosen), data: { value: one.where },
          on: { click: () => toggle(facet, one) },
        },
        isolated(one.value), h("span", { class: "facet-count" }, number(one.count)),
      )));
      if (more) options.push(h("li", { class: "help" }, texts.filter.more(more)));
      return h("li", {}, h(
        "details", { class: "facet", name: "facet", open: field === open, data: { field } },
        h("summary", { class: "quiet", data: { value: field } }, name, hidden(` (${texts.filter.values(values.length)})`)),
        h("ul", { class: "facet-values" }, ...options),
      ));
    }));
    if (focused) [...list.querySelectorAll("[data-value]")].find((one) => one.dataset.value === focused)?.focus();
  }

  // A click elsewhere, or Escape, closes the open list.
  document.addEventListener("click", (event) => {
    for (const open of list.querySelectorAll("details[open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
  });
  list.addEventListener("keydown", (event) => {
    const open = event.target.closest("details[open]");
    if (event.key !== "Escape" || !open) return;
    event.stopPropagation();
    open.open = false;
    open.firstChild.focus();
  });

  return {
    element,
    /** Fetch them again the next time: the pictures have changed. */
    forget() {
      shown = "";
    },
    async show(where, collection) {
      current = where;
      const key = JSON.stringify([where, collection]);
      if (key === shown) return;
      shown = key;
      drawChosen(where);
      pending.abort();
      pending = new AbortController();
      try {
        const found = await facets(where, collection, pending.signal);
        drawFacets(found);
        drawChosen(where);
      } catch (error) {
        // The filter may be wrong, which its own field says; or the server is busy.
        if (!isAbort(error)) list.replaceChildren();
        if (shown === key) shown = "";
      }
    },
  };
}
