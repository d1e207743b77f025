// Two small dialogs: the keys of the keyboard, and the key of the server.

import { signIn } from "./api.js";
import { h, hidden, icon } from "./dom.js";
import { trap } from "../search/viewer.js";

const KEYS = [
  [["/"], "go to the search box"],
  [["↓"], "from the box to the results"],
  [["←", "→", "↑", "↓"], "move among the results"],
  [["Enter"], "open a result"],
  [["m"], "more like it"],
  [["n"], "not like it"],
  [["←", "→"], "the one before or after, while one is open"],
  [["Esc"], "close"],
  [["?"], "show these keys"],
];

function dialog(title, id, ...children) {
  const close = h("button", { class: "icon-button close", type: "button" }, icon("close"), hidden("Close"));
  const element = h(
    "dialog", { class: "small", "aria-labelledby": id },
    h("div", { class: "small-body" }, h("h2", { id }, title), ...children, close),
  );
  close.addEventListener("click", () => element.close());
  element.addEventListener("click", (event) => {
    if (event.target === element) element.close();
  });
  element.addEventListener("keydown", (event) => {
    if (event.key === "Tab") trap(element, event);
  });
  document.body.append(element);
  return element;
}

/** @returns {() => void}  shows the keys */
export function createHelp() {
  const help = dialog(
    "Keyboard", "keys-title",
    h(
      "dl", { class: "keys" },
      ...KEYS.flatMap(([keys, words]) => [
        h("dt", {}, ...keys.map((key) => h("kbd", {}, key))),
        h("dd", {}, words),
      ]),
    ),
  );
  return () => {
    if (!document.querySelector("dialog[open]")) help.showModal();
  };
}

/** @returns {() => Promise<boolean>}  asks for the server's key; whether one was taken */
export function createSignIn() {
  const input = h("input", {
    class: "key", id: "key", type: "password", autocomplete: "current-password", required: true,
    "aria-describedby": "key-wrong",
  });
  const wrong = h("p", { class: "wrong", id: "key-wrong", role: "alert" });
  const form = h(
    "form", { class: "key-form" },
    h("p", {}, "This server takes requests with a key only. It is kept as a cookie that this page cannot read."),
    h("label", { for: "key" }, "Key"), input, wrong, h("button", { class: "action first", type: "submit" }, "Sign in"),
  );
  const element = dialog("A key, please", "key-title", form);
  return () =>
    new Promise((resolve) => {
      let signed = false;
      form.onsubmit = async (event) => {
        event.preventDefault();
        wrong.textContent = "";
        try {
          await signIn(input.value);
          signed = true;
          element.close();
        } catch (error) {
          wrong.textContent = error.status === 401 ? "The server does not know this key." : error.message;
          input.select();
        }
      };
      element.addEventListener("close", () => {
        input.value = "";
        resolve(signed);
      }, { once: true });
      for (const open of document.querySelectorAll("dialog[open]")) open.close();
      element.showModal();
      input.focus();
    });
}
