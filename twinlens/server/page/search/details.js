// Show what is stored about a hit: a table of its fields. Values are buttons that filter by them.

import { labels } from "../shared/api.js";
import { isolated, isolatedPath, quoted } from "../shared/bidi.js";
import { h, toast } from "../shared/dom.js";
import { literal, namesOf, reference } from "../shared/filters.js";
import { readable } from "../shared/hits.js";
import { language, number } from "../shared/language.js";
import { texts } from "../texts/en/search.js";
import { texts as shared } from "../texts/en/shared.js";

/** Fields that are shown in a special form, or not at all. */
const SPECIAL = new Set(["relative_path", "width", "height", "bytes", "mtime", "latitude", "longitude", "taken", "year"]);
/** Fields of names that people give to pictures, each of which is a button. */
const LABELS = new Set(["albums", "tags"]);
/** "2019", "2019-07", "2019-07-03" or "2019-07-03T10:00:00". */
const DATE = /^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d:\d\d))?)?)?/;

const monthOnly = new Intl.DateTimeFormat(language, { month: "long", timeZone: "UTC" });

/**
 * @param {object} hit
 * @param {string} collection
 * @param {{onFilter: (filter: string) => void, onGone: () => void}} handlers  onGone: the picture has
 *   no longer what is shown
 * @returns {HTMLElement}
 */
export function createDetails(hit, collection, { onFilter, onGone }) {
  const data = hit.metadata ?? {};
  const button = (words, says, click) =>
    h("button", { class: "value", type: "button", title: texts.filter.by(quoted(says)), on: { click } }, isolated(words));
  const value = (words, filter) => button(words, filter, () => onFilter(filter));
  // The server writes the filter of an album or a tag.
  const label = (field, name) => button(name, `${readable(field)} ${name}`, async () => {
    try {
      const found = (await labels(field, collection)).find((one) => one.name === name);
      if (found) onFilter(found.where);
      else {
        toast(shared.gone.refreshed(shared.gone[field](quoted(name))));
        onGone();
      }
    } catch (error) {
      toast(error.message);
    }
  });
  const rows = [];
  if (data.width > 0 && data.height > 0) rows.push([texts.details.size, texts.details.pixels(data.width, data.height)]);
  if (data.bytes > 0) rows.push([texts.details.file, bytes(data.bytes)]);
  const taken = takenParts(data.taken, value);
  if (taken) rows.push([texts.details.taken, ...taken]);
  else if (data.year) rows.push([texts.details.year, value(String(data.year), `year == ${literal(data.year)}`)]);
  if (data.mtime > 0 && !taken) rows.push([texts.details.changed, new Date(data.mtime * 1000).toLocaleDateString(language, { dateStyle: "medium" })]);
  if (Number.isFinite(data.latitude) && Number.isFinite(data.longitude)) {
    rows.push([texts.details.place, `${data.latitude.toFixed(4)}, ${data.longitude.toFixed(4)}`]);
  }
  for (const [name, stored] of Object.entries(data)) {
    if (SPECIAL.has(name) || stored === "" || stored === null) continue;
    if (LABELS.has(name)) {
      const buttons = namesOf(stored).map((one) => label(name, one));
      rows.push([readable(name), ...buttons.flatMap((one, at) => (at ? [", ", one] : [one]))]);
      continue;
    }
    rows.push([readable(name), value(String(stored), `${reference(name)} == ${literal(stored)}`)]);
  }
  for (const path of new Set([hit.path, ...(hit.paths ?? [])].filter(Boolean))) rows.push([texts.details.path, isolatedPath(path)]);
  return h(
    "dl", { class: "table" },
    ...rows.flatMap(([name, ...shown]) => [
      h("dt", {}, name), h("dd", { class: name === texts.details.path ? "path" : "" }, ...shown),
    ]),
  );
}

/** A date as buttons that filter by its day, its month and its year; null if it is none. */
function takenParts(taken, value) {
  const [, year, month, day, time] = DATE.exec(String(taken ?? "")) ?? [];
  if (!year) return null;
  const by = (words, prefix) => value(words, `taken == ${literal(prefix)}`);
  const parts = [by(year, year)];
  if (month) {
    const name = monthOnly.format(new Date(`${year}-${month}-01T00:00:00Z`));
    parts.unshift(by(name, `${year}-${month}`), " ");
  }
  if (day) parts.unshift(by(texts.details.day(Number(day)), `${year}-${month}-${day}`), " ");
  return time ? [...parts, `, ${time}`] : parts;
}

function bytes(size) {
  if (size < 1000) return texts.details.bytes(size);
  if (size < 1e6) return texts.details.kilobytes(Math.round(size / 1000));
  return texts.details.megabytes(number(size / 1e6, 1));
}
