// Ask of one picture: does it show this? The answer is as relevant as the picture would be to a search for it.

import { isAbort } from "../shared/api.js";
import { quoted } from "../shared/bidi.js";
import { h } from "../shared/dom.js";
import { answerLevel, probabilityText } from "../shared/hits.js";
import { texts } from "../texts/en/search.js";
import { pictureFor } from "./comparison.js";

/**
 * The form below a picture. What is typed stays when another picture is shown.
 * @param {{collection: () => string}} handlers  collection: the name of the one that is shown
 * @returns {{element: HTMLElement, show: (id: string) => void}}  show: asks about this picture from
 *   now on; "" hides the form
 */
export function createQuestion(handlers) {
  const input = h("input", {
    class: "field", id: "question", type: "text", maxlength: 500, autocomplete: "off",
    placeholder: texts.question.example, "aria-describedby": "answer",
  });
  const answer = h("p", { class: "answer", id: "answer", role: "status", "aria-live": "polite" });
  const element = h(
    "form", { class: "question", hidden: true },
    h("label", { for: "question" }, texts.question.label),
    h("div", { class: "question-line" }, input, h("button", { class: "action", type: "submit" }, texts.question.ask)),
    answer,
  );
  let id = "";
  let pending = new AbortController();

  const reset = () => {
    pending.abort();
    answer.textContent = "";
  };
  input.addEventListener("input", reset);
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    reset();
    const text = input.value.trim();
    if (!text) {
      answer.textContent = texts.question.empty;
      input.focus();
      return;
    }
    pending = new AbortController();
    try {
      const { relevance } = await pictureFor(id, text, handlers.collection(), pending.signal);
      const said = texts.question.answers[answerLevel(relevance)];
      answer.textContent = texts.question.answer(said, probabilityText(relevance), quoted(text));
    } catch (error) {
      if (!isAbort(error)) answer.textContent = quoted(error.message);
    }
  });

  return {
    element,
    show(next) {
      if (next !== id) reset();
      id = next;
      element.hidden = !id;
    },
  };
}
