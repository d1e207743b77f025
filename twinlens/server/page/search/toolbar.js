// The row under the box: what to find, how to rank, where, and the filter.

import { h, hidden, icon } from "../shared/dom.js";
import { suggest } from "./filter-suggestions.js";

const MODES = { dense: "By meaning", text: "By words", hybrid: "By both" };

/**
 * @param {HTMLElement} place
 * @param {{onChange: (changes: object) => void}} handlers  parts of the query that are others now
 */
export function createTools(place, { onChange }) {
  let fields = {};
  let shown = false;

  const target = choice("Find", { images: "Pictures", texts: "Captions" }, (value) => onChange({ target: value }));
  const mode = select("Rank", (value) => onChange({ mode: value }));
  const collection = select("Collection", (value) => onChange({ collection: value, where: "" }));
  mode.element.hidden = true;
  collection.element.hidden = true;
  const toggle = h(
    "button", { class: "quiet", type: "button", "aria-expanded": "false", "aria-controls": "filter-row" },
    icon("filter"), h("span", {}, "Filter"),
  );
  const said = h("p", { class: "said", id: "said" });
  const field = createField((where) => onChange({ where }), () => fields);
  const row = h("div", { class: "filter-row", id: "filter-row", hidden: true }, field.element);
  place.append(
    h("div", { class: "tools-row" }, target.element, mode.element, collection.element, toggle, said),
    row,
  );

  function open(opened) {
    shown = opened;
    row.hidden = !opened;
    toggle.setAttribute("aria-expanded", String(opened));
  }

  toggle.addEventListener("click", () => {
    open(!shown);
    if (shown) field.focus();
  });

  return {
    /** Show a query: what is chosen, and what there is to choose. */
    show(query, served, names, fallback) {
      const unknown = !Object.keys(fields).length;
      fields = served?.fields?.[query.target] ?? {};
      if (unknown) field.offer();
      target.set(query.target);
      target.element.hidden = served?.texts === 0 && query.target === "images";
      const modes = served?.modes ?? ["dense"];
      mode.set(Object.fromEntries(modes.map((name) => [name, MODES[name] ?? name])), query.mode);
      mode.element.hidden = modes.length < 2;
      collection.set(Object.fromEntries(names.map((name) => [name, name])), query.collection || fallback);
      collection.element.hidden = names.length < 2;
      toggle.classList.toggle("on", Boolean(query.where));
      if (query.where && !shown) open(true);
      field.set(query.where);
    },
    /** Say in a few words what came out. */
    say(text) {
      said.textContent = text;
    },
    /** Show what is wrong with the filter; "" for nothing. */
    wrong(reason) {
      if (reason) open(true);
      field.wrong(reason);
    },
  };
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
      const known = Object.hasOwn(options, value) ? options : { ...options, [value]: MODES[value] ?? value };
      list.replaceChildren(...Object.entries(known).map(([name, words]) => h("option", { value: name }, words)));
      list.value = value;
    },
  };
}

/** The field for a filter: a combobox that offers fields, operators and joining words. */
function createField(onFilter, fieldsOf) {
  let applied = "";
  let offered = { from: 0, options: [] };
  let at = -1;

  const list = h("ul", { class: "offers", id: "offers", role: "listbox", "aria-label": "What can come next", hidden: true });
  const input = h("input", {
    class: "filter", id: "filter", type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
    role: "combobox", "aria-expanded": "false", "aria-controls": "offers", "aria-autocomplete": "list",
    "aria-describedby": "filter-wrong filter-help", "aria-label": "Filter", maxlength: 4000,
    placeholder: 'width >= 1200 and path startswith "trips/"',
  });
  const error = h("p", { class: "wrong", id: "filter-wrong", role: "alert" });
  const help = h("p", { class: "help", id: "filter-help" }, "Only what satisfies this is found. Enter applies it.");
  const apply = h("button", { class: "plain", type: "button" }, "Apply");
  const clear = h("button", { class: "plain", type: "button" }, "Clear");
  const element = h(
    "div", { class: "filter-field" },
    h("div", { class: "filter-line" }, h("div", { class: "combo" }, input, list), apply, clear),
    error, help,
  );

  function offer() {
    offered = suggest(input.value.slice(0, input.selectionStart ?? input.value.length), fieldsOf());
    at = -1;
    draw();
  }

  function hide() {
    offered = { from: 0, options: [] };
    draw();
  }

  function draw() {
    list.replaceChildren(
      ...offered.options.map((option, number) =>
        h(
          "li",
          {
            id: `offer-${number}`, role: "option", "aria-selected": String(number === at),
            // Before the field loses the focus.
            on: { mousedown: (event) => { event.preventDefault(); take(option); } },
          },
          h("span", {}, option.text.trim()), option.hint && h("span", { class: "hint" }, option.hint),
        )),
    );
    list.hidden = !offered.options.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    if (at >= 0) {
      input.setAttribute("aria-activedescendant", `offer-${at}`);
      list.children[at].scrollIntoView({ block: "nearest" });
    } else {
      input.removeAttribute("aria-activedescendant");
    }
  }

  function take(option) {
    const caret = input.selectionStart ?? input.value.length;
    input.setRangeText(option.text, offered.from, caret, "end");
    input.focus();
    offer();
  }

  function submit() {
    hide();
    const where = input.value.trim();
    if (where !== applied || !error.hidden) onFilter(where);
  }

  input.addEventListener("input", offer);
  input.addEventListener("click", offer);
  input.addEventListener("blur", hide);
  input.addEventListener("keydown", (event) => {
    const many = offered.options.length;
    if (many && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      at = event.key === "ArrowDown" ? (at + 1) % many : (at <= 0 ? many : at) - 1;
      draw();
    } else if (!many && event.key === "ArrowDown") {
      offer();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (at >= 0) take(offered.options[at]);
      else submit();
    } else if (event.key === "Tab" && at >= 0) {
      event.preventDefault();
      take(offered.options[at]);
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
      offer();
    },
    /** Offer what is known by now, should somebody wait for it. */
    offer() {
      if (document.activeElement === input) offer();
    },
    set(where) {
      if (where !== applied) input.value = where;
      applied = where;
    },
    wrong(reason) {
      error.textContent = reason;
      error.hidden = !reason;
      help.hidden = Boolean(reason);
      input.setAttribute("aria-invalid", String(Boolean(reason)));
      const column = Number(/column (\d+)/.exec(reason)?.[1]);
      if (column && document.activeElement === input) input.setSelectionRange(column - 1, input.value.length);
    },
  };
  field.wrong("");
  return field;
}
