// Deutsche Texte der Karte.

import { number } from "../../shared/language.js";
import { pictures } from "./shared.js";

export const texts = {
  drawing: "Die Karte wird gezeichnet …",
  pageTitle: (asked) => (asked ? `${asked} · Karte · twinlens` : "Karte · twinlens"),
  open: "Öffnen",
  inView: (seen) => `Sichtbar: ${number(seen)}`,
  status: (seen) => `${pictures(seen)} sichtbar`,
  sample: (total) => `, Auswahl aus ${number(total)}`,
  highlighted: (found, asked) => ` · ${number(found)} hervorgehoben für ${asked}`,
  filter: (where) => `den Filter ${where}`,
  withFilter: (asked, where) => `${asked} mit dem Filter ${where}`,
  nothing: (asked) => `Nichts auf der Karte für ${asked}`,
  nothingClose: (asked) => `Nichts passt gut zu: ${asked}. Die nächsten Bilder sind hervorgehoben`,
  gone: (what) => `${what}. Leeren Sie die Suche, um fortzufahren`,
  region: (name, size) => `${name}: ${pictures(size)}`,
  failed: "Die Karte kann nicht gezeigt werden.",
  empty: { title: "Es gibt noch nichts zu zeigen.", detail: "Nehmen Sie Bilder auf, um sie hier zu sehen." },
};
