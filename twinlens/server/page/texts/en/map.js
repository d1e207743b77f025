// English texts of the map.

import { number } from "../../shared/language.js";
import { pictures } from "./shared.js";

export const texts = {
  drawing: "Drawing the map…",
  pageTitle: (asked) => (asked ? `${asked} · Map · twinlens` : "Map · twinlens"),
  open: "Open",
  inView: (seen) => `In view: ${number(seen)}`,
  status: (seen) => `${pictures(seen)} in view`,
  sample: (total) => ` of ${pictures(total)}, a sample on the map`,
  highlighted: (found, asked) => ` · ${number(found)} highlighted for ${asked}`,
  filter: (where) => `the filter ${where}`,
  withFilter: (asked, where) => `${asked} with the filter ${where}`,
  nothing: (asked) => `Nothing on the map for ${asked}`,
  nothingClose: (asked) => `Nothing close to ${asked}: the nearest are highlighted`,
  gone: (what) => `${what}. Clear the search to go on`,
  region: (name, size) => `${name}: ${pictures(size)}`,
  failed: "The map cannot be shown.",
  empty: { title: "There is nothing to show yet.", detail: "Ingest some pictures to see them here." },
};
