// Deutsche Texte, die mehrere Seiten zeigen.

import { form, plural } from "../../shared/language.js";
import { EVERYDAY } from "./everyday.js";

export const pictures = (number) => plural(number, { one: "Bild", other: "Bilder" });
export const captions = (number) => plural(number, { one: "Bildtext", other: "Bildtexte" });

export const texts = {
  close: "Schließen",
  undo: "Rückgängig",
  aPicture: "Ein Bild",
  moreLikeThis: "Ähnliche Bilder",
  perhaps: (text) => `Vielleicht: ${text}`,
  everyday: (word) => (Object.hasOwn(EVERYDAY, word) ? EVERYDAY[word] : word),
  fields: {
    albums: "Alben", camera: "Kamera", caption_probability: "Wahrscheinlichkeit des Bildtexts",
    caption_source: "Herkunft des Bildtexts", folder: "Ordner", format: "Format", tags: "Schlagwörter", year: "Jahr",
  },
  pictures,

  query: {
    words: (words) => `„${words}“`,
    pictures: (number) => (number === 1 ? "dieses Bild" : `diese ${number} Bilder`),
    both: (words, pictures) => `${words} und ${pictures}`,
    without: (asked, excluded) => `${asked} ohne ${excluded}`,
  },

  match: {
    strong: { word: "sicher", match: "sicherer Treffer", title: "Sicherer Treffer" },
    likely: { word: "wahrscheinlich", match: "wahrscheinlicher Treffer", title: "Wahrscheinlicher Treffer" },
    weak: { word: "schwach", match: "schwacher Treffer", title: "Schwacher Treffer" },
    byWords: "über Wörter gefunden",
    byWordsTitle: "Die Wörter stimmen überein",
    over: (percent) => `über ${percent}`,
    under: (percent) => `unter ${percent}`,
  },

  summary: {
    byWords: (number) => `${number} über Wörter gefunden`,
    byBoth: (words, meanings) => `${words} über Wörter gefunden, ${meanings} über die Bedeutung`,
    strongAndLikely: (strong, likely) =>
      `${strong} ${form(strong, { one: "sicherer", other: "sichere" })} und ${likely} ${form(likely, { one: "wahrscheinlicher", other: "wahrscheinliche" })} Treffer`,
    strong: (number) => `${number} ${form(number, { one: "sicherer", other: "sichere" })} Treffer`,
    likely: (number) => `${number} ${form(number, { one: "wahrscheinlicher", other: "wahrscheinliche" })} Treffer`,
    weak: "Nur schwache Treffer",
    far: "Nur entferntere Ergebnisse",
  },

  gone: {
    collection: (name) => `Es gibt keine Sammlung ${name}`,
    albums: (name) => `Es gibt kein Album ${name}`,
    tags: (name) => `Kein Bild hat das Schlagwort ${name}`,
    detail: {
      collection: "Vielleicht wurde sie gelöscht, oder der Link ist falsch.",
      albums: "Vielleicht wurde es geleert oder umbenannt, oder der Link ist falsch.",
      tags: "Vielleicht wurde es entfernt oder umbenannt, oder der Link ist falsch.",
      ids: "Vielleicht wurde es gelöscht, oder der Link gehört zu einer anderen Sammlung.",
    },
    picture: "Das Bild ist nicht mehr in der Sammlung.",
    pictures: "Die Suche nennt ein Bild, das nicht in der Sammlung ist",
    refreshed: (what) => `${what} mehr: Die Seite zeigt jetzt den neuen Stand`,
  },

  server: {
    offline: "Der Server antwortet nicht",
    offlineDetail: "Vielleicht läuft er nicht mehr, oder das Netz ist unterbrochen.",
    answered: (status) => `Der Server hat mit ${status} geantwortet`,
  },

  key: {
    title: "API-Schlüssel erforderlich",
    explanation: "Dieser Server verlangt einen API-Schlüssel. Der Schlüssel wird in einem Cookie gespeichert, das diese Seite nicht lesen kann.",
    label: "Schlüssel",
    signIn: "Anmelden",
    unknown: "Der Server kennt diesen Schlüssel nicht.",
  },

  writeKey: {
    title: "Schreibschlüssel erforderlich",
    explanation: "Dazu ist ein API-Schlüssel mit dem Recht „write“ nötig. Er wird vergessen, sobald diese Seite geschlossen wird.",
    label: "Schreibschlüssel",
    go: "Weiter",
    refused: "Der Server nimmt diesen Schlüssel nicht an: Er braucht das Recht „write“.",
  },
};
