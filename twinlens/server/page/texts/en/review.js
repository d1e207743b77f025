// English texts of the review.

import { pictures } from "./shared.js";

export const texts = {
  loading: "Loading…",
  nothing: "Nothing to review.",
  listed: (number, more) => `${pictures(number)}${more ? ", and more" : ""}`,
  concepts: "Concepts and scores",
  noConcept: "no concept any more",
  release: "Release",
  dismiss: "Dismiss",
  keep: "Keep held back",
  hold: "Hold back",
  /** What was decided, by the API's names. */
  stored: {
    held: (name) => `${name}: held back`,
    released: (name) => `${name}: released`,
  },
  decided: {
    held: (policy) => `Decided: held back (${policy})`,
    released: (policy) => `Decided: released (${policy})`,
  },
  heldBy: (policy) => `Held back by ${policy}`,
  flaggedBy: (policy) => `Flagged by ${policy}, and shown in searches`,
};
