// English texts that several pages show. The server replaces this module by that of another language.

import { form, plural } from "../../shared/language.js";

export const pictures = (number) => plural(number, { one: "picture", other: "pictures" });
export const captions = (number) => plural(number, { one: "caption", other: "captions" });
const matches = (number) => form(number, { one: "match", other: "matches" });

export const texts = {
  close: "Close",
  undo: "Undo",
  aPicture: "A picture",
  moreLikeThis: "More like this",
  perhaps: (text) => `Perhaps: ${text}`,
  /** One of the words that the server proposes for pictures, and names regions of the map by: in English. */
  everyday: (word) => word,
  /** Fields that twinlens itself gives to pictures, by the API's names. */
  fields: {
    albums: "Albums", camera: "Camera", caption_probability: "Caption probability",
    caption_source: "Caption source", folder: "Folder", format: "Format", tags: "Tags", year: "Year",
  },
  pictures,

  /** The query in a few words, for titles and sentences. */
  query: {
    words: (words) => `“${words}”`,
    pictures: (number) => (number === 1 ? "this picture" : `these ${number} pictures`),
    both: (words, pictures) => `${words} with ${pictures}`,
    without: (asked, excluded) => `${asked} without ${excluded}`,
  },

  /** How well a hit fits. */
  match: {
    strong: { word: "strong", match: "strong match", title: "Strong match" },
    likely: { word: "likely", match: "likely match", title: "Likely match" },
    weak: { word: "weak", match: "weak match", title: "Weak match" },
    byWords: "found by words",
    byWordsTitle: "Its words match",
    over: (percent) => `over ${percent}`,
    under: (percent) => `under ${percent}`,
  },

  /** All results in a few words. */
  summary: {
    byWords: (number) => `${number} found by words`,
    byBoth: (words, meanings) => `${words} found by words, ${meanings} by meaning`,
    strongAndLikely: (strong, likely) => `${strong} strong and ${likely} likely ${matches(likely)}`,
    strong: (number) => `${number} strong ${matches(number)}`,
    likely: (number) => `${number} likely ${matches(number)}`,
    weak: "Weak matches only",
    far: "Only results further away",
  },

  /** What a link or a filter names, and is not there. */
  gone: {
    collection: (name) => `There is no collection ${name}`,
    albums: (name) => `There is no album ${name}`,
    tags: (name) => `No picture is tagged ${name}`,
    /** Why, by what is gone. */
    detail: {
      collection: "It may have been dropped, or the link is wrong.",
      albums: "It may have been emptied or renamed, or the link is wrong.",
      tags: "The tag may have been removed or renamed, or the link is wrong.",
      ids: "It may have been deleted, or the link belongs to another collection.",
    },
    picture: "The picture is no longer in the collection.",
    pictures: "The search names a picture that is not in the collection",
    refreshed: (what) => `${what} any more: the page shows what there is now`,
  },

  server: {
    offline: "The server does not answer",
    offlineDetail: "It may have stopped, or the network is down.",
    answered: (status) => `The server answered ${status}`,
  },

  key: {
    title: "API key required",
    explanation: "This server requires an API key. The key is stored in a cookie that this page cannot read.",
    label: "Key",
    signIn: "Sign in",
    unknown: "The server does not know this key.",
  },

  writeKey: {
    title: "Write key required",
    explanation: "This requires an API key with the scope write. It is forgotten when this page is closed.",
    label: "Write key",
    go: "Continue",
    refused: "The server does not accept this key: it needs the scope write.",
  },
};
