// Deutsche Texte der Prüfung.

import { pictures } from "./shared.js";

export const texts = {
  loading: "Wird geladen …",
  nothing: "Nichts zu prüfen.",
  listed: (number, more) => `${pictures(number)}${more ? " und weitere" : ""}`,
  concepts: "Konzepte und Werte",
  noConcept: "kein Konzept mehr",
  release: "Freigeben",
  dismiss: "Unbedenklich",
  keep: "Weiter zurückhalten",
  hold: "Zurückhalten",
  stored: {
    held: (name) => `${name}: zurückgehalten`,
    released: (name) => `${name}: freigegeben`,
  },
  decided: {
    held: (policy) => `Entschieden: zurückgehalten (${policy})`,
    released: (policy) => `Entschieden: freigegeben (${policy})`,
  },
  heldBy: (policy) => `Zurückgehalten durch ${policy}`,
  flaggedBy: (policy) => `Markiert durch ${policy}, erscheint in Suchen`,
};
