// Write numbers and counts in the language of the page.

/** The language that the server chose for this page: "en", "de", … */
export const language = document.documentElement.lang;

const rules = new Intl.PluralRules(language);
const percents = new Intl.NumberFormat(language, { style: "percent" });

/** A number: "1,204"; `digits`: exactly so many after the decimal point. */
export const number = (value, digits) => value.toLocaleString(
  language, digits === undefined ? {} : { minimumFractionDigits: digits, maximumFractionDigits: digits },
);

/** The form of a word for a number, from its forms by the names that CLDR gives them ("one", "other", …). */
export const form = (value, forms) => forms[rules.select(value)] ?? forms.other;

/** A number with its word: "1 picture", "1,204 pictures". */
export const plural = (value, forms) => `${number(value)} ${form(value, forms)}`;

/** A share of one as per cent: "94%". */
export const percent = (value) => percents.format(value);
