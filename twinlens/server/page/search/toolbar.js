// Create the toolbar below the search box: target, ranking, collection, filter, saving, summary.

import { isolated, quoted } from "../shared/bidi.js";
import { createDialog } from "../shared/dialogs.js";
import { h, hidden, icon } from "../shared/dom.js";
import { matchBars } from "../shared/hits.js";
import { isListing } from "../shared/query.js";
import { texts } from "../texts/en/search.js";
import { createFacetChips } from "./facet-chips.js";
import { suggest } from "./filter-suggestions.js";

const MODES = texts.tools.modes;

/**
 * @param {HTMLElement} container
 * @param {{onChange: (changes: object) => void, save: HTMLElement}} handlers  onChange: gets the
 *   query's changed parts; save: the button that saves the query
 */
export function createToolbar(container, { onChange, save }) {
  let fields = {};
  let shown = false;
  let showing = null; // the query's target and filter, and the name of its collection

  const target = choice(texts.tools.target, texts.tools.targets, (value) => onChange({ target: value }));
  const mode = select(texts.tools.mode, (value) => onChange({ mode: value }));
  const collections = select(texts.tools.collection, (value) => onChange({ collection: value, where: "" }));
  mode.element.hidden = true;
  collections.element.hidden = true;
  const toggle = h(
    "button", { class: "quiet", type: "button", "aria-expanded": "false", "aria-controls": "filter-row" },
    icon("filter"), h("span", {}, texts.filter.label),
  );
  const summary = h("p", { class: "summary", id: "summary" });
  const legend = createLegend();
  const field = createFilterField((where) => onChange({ where }), () => fields);
  const facets = createFacetChips({ onFilter: (where) => onChange({ where }) });
  const row = h("div", { class: "filter-row", id: "filter-row", hidden: true }, facets.element, field.element);
  container.append(
    h("div", { class: "tools-row" }, target.element, mode.element, collections.element, toggle, save, summary, legend),
    row,
  );

  function open(opened) {
    shown = opened;
    row.hidden = !opened;
    toggle.setAttribute("aria-expanded", String(opened));
    showFacets();
  }

  /** Facets are of pictures, and are fetched when they can be seen. */
  function showFacets() {
    const visible = shown && showing?.target === "images" && Boolean(showing.collection);
    facets.element.hidden = !visible;
    if (visible) facets.show(showing.where, showing.collection);
  }

  toggle.addEventListener("click", () => {
    open(!shown);
    if (shown) field.focus();
  });

  return {
    /** Show a query's choices; `collection` is as the API describes it, `names` are all of them. */
    show(query, collection, names, fallback) {
      const first = !Object.keys(fields).length;
      fields = collection?.fields?.[query.target] ?? {};
      if (first) field.update();
      target.set(query.target);
      target.element.hidden = collection?.texts === 0 && query.target === "images";
      const modes = collection?.modes ?? ["dense"];
      mode.set(Object.fromEntries(modes.map((name) => [name, MODES[name] ?? name])), query.mode);
      mode.element.hidden = modes.length < 2 || isListing(query);
      collections.set(Object.fromEntries(names.map((name) => [name, name])), query.collection || fallback);
      collections.element.hidden = names.length < 2;
      toggle.hidden = !collection?.images && !collection?.texts;
      toggle.classList.toggle("on", Boolean(query.where));
      showing = { target: query.target, where: query.where, collection: collection?.name ?? "" };
      if (query.where && !shown) open(true);
      else showFacets();
      field.set(query.where);
    },
    /** The pictures have changed: the values of their fields are fetched again. */
    forget: facets.forget,
    /** Summarise the results in a few words. `bars`: some of them have bars, which can be explained. */
    summarise(text, bars = false) {
      summary.textContent = text;
      legend.hidden = !bars;
    },
    /** Show an error in the filter; "" for none. */
    showFilterError(reason) {
      if (reason) open(true);
      field.showError(reason);
    },
  };
}

/** A button that explains the bars: on a touched screen nothing hovers that could. */
function createLegend() {
  const row = (level, words) => [h("dt", {}, matchBars(level)), h("dd", {}, words)];
  const dialog = createDialog(
    texts.tools.legendTitle, "legend-title",
    h(
      "dl", { class: "shortcuts" },
      ...row("strong", texts.tools.strong),
      ...row("likely", texts.tools.likely),
      ...row("weak", texts.tools.weak),
    ),
  );
  return h(
    "button", {
      class: "icon-button legend", type: "button", title: texts.tools.legend, hidden: true,
      on: { click: () => dialog.showModal() },
    },
    icon("info"), hidden(texts.tools.legend),
  );
}

function choice(label, options, onChange) {
  const inputs = {};
  const element = h(
    "fieldset", { class: "choice" }, h("legend", { class: "hidden" }, label),
    ...Object.entries(options).map(([value, words]) => {
      inputs[value] = h("input", { type: "radio", name: label, value, on: { change: () => onChange(value) } });
      return h("label", {}, inputs[value], h("span", {}, words));
    }),
  );
  return {
    element,
    set(value) {
      inputs[value].checked = true;
    },
  };
}

function select(label, onChange) {
  const list = h("select", { "aria-label": label, on: { change: () => onChange(list.value) } });
  const element = h("label", { class: "select" }, hidden(label), list);
  return {
    element,
    set(options, value) {
      const all = Object.hasOwn(options, value) ? options : { ...options, [value]: MODES[value] ?? value };
      list.replaceChildren(...Object.entries(all).map(([name, words]) => h("option", { value: name }, quoted(words))));
      list.value = value;
    },
  };
}

/** The filter's text field: a combobox that suggests fields, operators, "and" and "or". */
function createFilterField(onFilter, fieldsOf) {
  let applied = "";
  let suggested = { from: 0, options: [] };
  let at = -1;

  const list = h("ul", { class: "suggestions", id: "suggestions", role: "listbox", "aria-label": texts.filter.suggestions, hidden: true });
  const input = h("input", {
    class: "filter field", id: "filter", type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
    role: "combobox", "aria-expanded": "false", "aria-controls": "suggestions", "aria-autocomplete": "list",
    "aria-describedby": "filter-error filter-help", "aria-label": texts.filter.label, maxlength: 4000,
    placeholder: 'width >= 1200 and path startswith "trips/"',
  });
  const error = h("p", { class: "error", id: "filter-error", role: "alert" });
  const help = h("p", { class: "help", id: "filter-help" }, texts.filter.help);
  const apply = h("button", { class: "plain", type: "button" }, texts.filter.apply);
  const clear = h("button", { class: "plain", type: "button" }, texts.filter.clear);
  const element = h(
    "div", { class: "filter-field" },
    h("div", { class: "filter-line" }, h("div", { class: "combo" }, input, list), apply, clear),
    error, help,
  );

  function update() {
    suggested = suggest(input.value.slice(0, input.selectionStart ?? input.value.length), fieldsOf());
    at = -1;
    draw();
  }

  function hide() {
    suggested = { from: 0, options: [] };
    draw();
  }

  function draw() {
    list.replaceChildren(
      ...suggested.options.map((option, number) =>
        h(
          "li",
          {
            id: `suggestion-${number}`, role: "option", "aria-selected": String(number === at),
            // On mousedown: a click would come after the field lost the focus and hid the list.
            on: { mousedown: (event) => { event.preventDefault(); take(option); } },
          },
          isolated(option.text.trim()), option.hint && h("span", { class: "hint" }, option.hint),
        )),
    );
    list.hidden = !suggested.options.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    if (at >= 0) {
      input.setAttribute("aria-activedescendant", `suggestion-${at}`);
      list.children[at].scrollIntoView({ block: "nearest" });
    } else {
      input.removeAttribute("aria-activedescendant");
    }
  }

  function take(option) {
    const caret = input.selectionStart ?? input.value.length;
    input.setRangeText(option.text, suggested.from, caret, "end");
    input.focus();
    update();
  }

  function submit() {
    hide();
    const where = input.value.trim();
    if (where !== applied || !error.hidden) onFilter(where);
  }

  input.addEventListener("input", update);
  input.addEventListener("click", update);
  input.addEventListener("blur", hide);
  input.addEventListener("keydown", (event) => {
    const many = suggested.options.length;
    if (many && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      at = event.key === "ArrowDown" ? (at + 1) % many : (at <= 0 ? many : at) - 1;
      draw();
    } else if (!many && event.key === "ArrowDown") {
      update();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (at >= 0) take(suggested.options[at]);
      else submit();
    } else if (event.key === "Tab" && at >= 0) {
      event.preventDefault();
      take(suggested.options[at]);
    } else if (event.key === "Escape" && many) {
      event.stopPropagation();
      hide();
    }
  });
  apply.addEventListener("click", submit);
  clear.addEventListener("click", () => {
    input.value = "";
    submit();
    input.focus();
  });

  const field = {
    element,
    focus() {
      input.focus();
      update();
    },
    /** Update the suggestions if the field has the focus. */
    update() {
      if (document.activeElement === input) update();
    },
    set(where) {
      if (where !== applied) input.value = where;
      applied = where;
    },
    showError(reason) {
      error.replaceChildren(isolated(reason, { lang: "en" }));
      error.hidden = !reason;
      help.hidden = Boolean(reason);
      input.setAttribute("aria-invalid", String(Boolean(reason)));
      const column = Number(/column (\d+)/.exec(reason)?.[1]);
      if (column && document.activeElement === input) input.setSelectionRange(column - 1, input.value.length);
    },
  };
  field.showError("");
  return field;
}
