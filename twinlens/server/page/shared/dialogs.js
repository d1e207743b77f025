// Create dialogs, keep the keyboard focus in them, and ask for the server's API key.

import { signIn } from "./api.js";
import { texts } from "../texts/en/shared.js";
import { h, hidden, icon } from "./dom.js";

/** A small dialog with a title and a button that closes it. */
export function createDialog(title, id, ...children) {
  const close = h("button", { class: "icon-button close", type: "button" }, icon("close"), hidden(texts.close));
  const element = h(
    "dialog", { class: "small", "aria-labelledby": id },
    h("div", { class: "small-body" }, h("h2", { id }, title), ...children, close),
  );
  close.addEventListener("click", () => element.close());
  element.addEventListener("click", (event) => {
    if (event.target === element) element.close();
  });
  element.addEventListener("keydown", (event) => {
    if (event.key === "Tab") trapFocus(element, event);
  });
  document.body.append(element);
  return element;
}

/**
 * Do something when a form is submitted, once at a time: a slow server must not get it twice.
 * @param {HTMLFormElement} form
 * @param {(event: SubmitEvent) => Promise<void>} run
 */
export function onSubmit(form, run) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.ariaBusy === "true") return;
    form.ariaBusy = "true";
    await run(event).finally(() => {
      form.ariaBusy = null;
    });
  });
}

/** Keep Tab within a dialog: without this, it moves on to the browser's own buttons. */
export function trapFocus(dialog, event) {
  const stops = [...dialog.querySelectorAll("button, a[href], input, summary, [tabindex='0']")].filter(
    (one) => !one.disabled && one.offsetParent !== null,
  );
  const edge = event.shiftKey ? stops[0] : stops.at(-1);
  if (document.activeElement === edge) {
    event.preventDefault();
    (event.shiftKey ? stops.at(-1) : stops[0]).focus();
  }
}

/** @returns {() => Promise<boolean>}  asks for the API key; resolves to whether the user signed in */
export function createSignIn() {
  const input = h("input", {
    class: "key field", id: "key", type: "password", autocomplete: "current-password", required: true,
    "aria-describedby": "key-error",
  });
  const failed = h("p", { class: "error", id: "key-error", role: "alert" });
  const form = h(
    "form", { class: "key-form" },
    h("p", {}, texts.key.explanation),
    h("label", { for: "key" }, texts.key.label), input, failed, h("button", { class: "action first", type: "submit" }, texts.key.signIn),
  );
  const element = createDialog(texts.key.title, "key-title", form);
  return () =>
    new Promise((resolve) => {
      let signedIn = false;
      form.onsubmit = async (event) => {
        event.preventDefault();
        failed.textContent = "";
        try {
          await signIn(input.value);
          signedIn = true;
          element.close();
        } catch (error) {
          failed.textContent = error.status === 401 ? texts.key.unknown : error.message;
          input.select();
        }
      };
      element.addEventListener("close", () => {
        input.value = "";
        resolve(signedIn);
      }, { once: true });
      for (const open of document.querySelectorAll("dialog[open]")) open.close();
      element.showModal();
      input.focus();
    });
}

/** @returns {(problem: string) => Promise<string>}  asks for a write key; "" if the user closes the dialog */
export function createWriteKeyDialog() {
  const input = h("input", { class: "key field", id: "write-key", type: "password", autocomplete: "off", required: true });
  const failed = h("p", { class: "error", role: "alert" });
  const form = h(
    "form", { class: "key-form" },
    h("p", {}, texts.writeKey.explanation),
    h("label", { for: "write-key" }, texts.writeKey.label), input, failed, h("button", { class: "action first", type: "submit" }, texts.writeKey.go),
  );
  const dialog = createDialog(texts.writeKey.title, "write-key-title", form);
  let asking = null;
  return (problem) => {
    asking ??= new Promise((resolve) => {
      let key = "";
      failed.textContent = problem;
      form.onsubmit = (event) => {
        event.preventDefault();
        key = input.value;
        dialog.close();
      };
      dialog.addEventListener("close", () => {
        input.value = "";
        asking = null;
        resolve(key);
      }, { once: true });
      dialog.showModal();
      input.focus();
    });
    return asking;
  };
}
