// Let people choose one of the collections, where there are several.

import { $, h } from "./dom.js";

/**
 * Fill the select element "collection", and show its label "collections".
 * @param {{collections: {name: string}[], default: string}} listed  as the API lists them
 * @param {string} current  the chosen one; "" for the default
 * @param {(name: string) => void} onChoose  gets "" for the default
 */
export function offerCollections({ collections, default: usual }, current, onChoose) {
  $("collections").hidden = collections.length < 2;
  $("collection").replaceChildren(...collections.map(({ name }) => h("option", { value: name }, name)));
  $("collection").value = current || usual;
  $("collection").addEventListener("change", ({ target }) => onChoose(target.value === usual ? "" : target.value));
}
