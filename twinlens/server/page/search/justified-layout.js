// Lay out pictures in a justified grid: each row has one height and fills the width. Only computes.

/** Pixels between pictures. */
export const GAP = 6;
const NARROWEST = 0.5;
const WIDEST = 3.2;
/** A row that fills the width may be this many times the target height; a single row, more. */
const MAX_STRETCH = 1.4;
const MAX_STRETCH_ALONE = 1.7;
/** Cost of a nearly empty last row. Other rows cost the squared logarithm of their stretch. */
const EMPTY_COST = 0.5;

/** A picture's aspect ratio (width / height) in the grid; very long pictures are cropped. */
export function ratioOf(metadata) {
  const ratio = Number(metadata?.width) / Number(metadata?.height);
  return Number.isFinite(ratio) && ratio > 0 ? Math.min(WIDEST, Math.max(NARROWEST, ratio)) : 4 / 3;
}

/** The target height of rows in a container of this width, in pixels. */
export function rowHeight(width) {
  if (width < 520) return 148;
  return width < 1000 ? 196 : 232;
}

/**
 * Compute a box for each picture.
 * @param {number[]} ratios  aspect ratios of the pictures, in order
 * @param {{width: number, target: number, gap: number, complete: boolean, balance?: boolean,
 *   alone?: boolean}} options
 *   width, target (height of a row), gap: pixels; complete: no pictures follow, so show the last
 *   row even if it is not full; balance: optimise all rows together, so that the last one is full
 *   if possible; alone: the page shows no other rows, so a single one may be higher
 * @returns {{boxes: {x: number, y: number, width: number, height: number, row: number}[],
 *   height: number}}  one box per picture, except for a last row that waits for more
 */
export function justify(ratios, options) {
  const { width, target, gap, complete, balance = false, alone = true } = options;
  if (!ratios.length) return { boxes: [], height: 0 };
  /** The height at which pictures `begin` to `end` (exclusive) fill the width. */
  const heightOf = (begin, end) => {
    let sum = 0;
    for (let at = begin; at < end; at += 1) sum += ratios[at];
    return (width - gap * (end - begin - 1)) / sum;
  };
  const ends = complete && balance
    ? balanced(ratios.length, heightOf, target)
    : greedy(ratios.length, heightOf, target);
  if (complete && ends.at(-1) !== ratios.length) ends.push(ratios.length);
  const boxes = [];
  let y = 0;
  let begin = 0;
  ends.forEach((end, row) => {
    const only = alone && ends.length === 1;
    const most = only ? target * MAX_STRETCH_ALONE : target * MAX_STRETCH;
    const full = heightOf(begin, end);
    // A row that would be too high if it filled the width does not fill it.
    const height = full <= most ? full : Math.min(full, only ? most : target);
    let x = 0;
    for (let at = begin; at < end; at += 1) {
      const wide = ratios[at] * height;
      boxes.push({ x, y, width: wide, height, row });
      x += wide + gap;
    }
    y += height + gap;
    begin = end;
  });
  return { boxes, height: Math.max(0, y - gap) };
}

/** The ends of rows, chosen one row at a time, each as near to the target height as possible. */
function greedy(many, heightOf, target) {
  const ends = [];
  let begin = 0;
  for (let end = 1; end <= many; end += 1) {
    if (heightOf(begin, end) > target) continue;
    // Without the last picture the row is higher: take whichever is nearer to the target.
    const without = end - begin > 1 ? heightOf(begin, end - 1) : Infinity;
    if (without / target < target / heightOf(begin, end)) {
      begin = end - 1;
      ends.push(begin);
      if (heightOf(begin, end) > target) continue;
    }
    begin = end;
    ends.push(end);
  }
  return ends;
}

/** The ends of rows with the least total cost (dynamic programming). */
function balanced(many, heightOf, target) {
  const best = [{ cost: 0, from: 0 }];
  for (let end = 1; end <= many; end += 1) {
    best[end] = { cost: Infinity, from: end - 1 };
    for (let begin = end - 1; begin >= 0; begin -= 1) {
      const height = heightOf(begin, end);
      const cost = best[begin].cost + costOf(height / target, end === many);
      if (cost < best[end].cost) best[end] = { cost, from: begin };
      if (height < target / 2) break;
    }
  }
  const ends = [];
  for (let end = many; end > 0; end = best[end].from) ends.unshift(end);
  return ends;
}

/** The cost of a row that fills the width at `stretch` times the target height. */
function costOf(stretch, last) {
  // Low rows are worse than high ones: small pictures are hard to see.
  const cost = Math.log(stretch) ** 2 * (stretch < 0.75 ? 2 : 1);
  // The last row need not be full, but costs more the emptier it is.
  if (last && stretch > MAX_STRETCH) return EMPTY_COST * (1 - 1 / stretch) + EMPTY_COST / 4;
  return cost * (stretch > MAX_STRETCH ? 4 : 1);
}
