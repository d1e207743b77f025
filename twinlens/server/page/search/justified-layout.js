// The justified grid: rows of one height each that fill the width. Pure computing, no elements.

const NARROWEST = 0.5;
const WIDEST = 3.2;
/** How many times the usual height a row may have to fill the width; more where it is the only one. */
const FULL = 1.4;
const ALONE = 1.7;
/** What a last row costs that is nearly empty; a full one costs the square of its logarithm. */
const EMPTY = 0.5;

/** Width by height of a picture as the grid shows it; very long ones are cropped. */
export function ratioOf(metadata) {
  const ratio = Number(metadata?.width) / Number(metadata?.height);
  return Number.isFinite(ratio) && ratio > 0 ? Math.min(WIDEST, Math.max(NARROWEST, ratio)) : 4 / 3;
}

/** How high rows should be in a container of this width, in pixels. */
export function rowHeight(width) {
  if (width < 520) return 148;
  return width < 1000 ? 196 : 232;
}

/**
 * Places for pictures.
 * @param {number[]} ratios  of the pictures, in their order
 * @param {{width: number, target: number, gap: number, complete: boolean, balance?: boolean,
 *   alone?: boolean}} options
 *   width, target, gap: pixels; complete: nothing comes after these, so a last row that is not
 *   full is shown as it is; balance: look at all of them before the first row is made, so that the
 *   last one is full where that can be; alone: there are no other rows beside these, so that a
 *   single one may be higher
 * @returns {{boxes: {x: number, y: number, width: number, height: number, row: number}[],
 *   height: number}}  a box for each picture; fewer where the last row waits for what comes
 */
export function justify(ratios, options) {
  const { width, target, gap, complete, balance = false, alone = true } = options;
  if (!ratios.length) return { boxes: [], height: 0 };
  /** How high a row of the pictures from `begin` to before `end` is where it fills the width. */
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
    const most = only ? target * ALONE : target * FULL;
    const full = heightOf(begin, end);
    // A row that would have to be too high for filling the width does not fill it.
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

/** Where rows end that are made one after the other, each as near to the height as can be. */
function greedy(many, heightOf, target) {
  const ends = [];
  let begin = 0;
  for (let end = 1; end <= many; end += 1) {
    if (heightOf(begin, end) > target) continue;
    // One picture less makes the row higher: take whichever is nearer to what it should be.
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

/** Where rows end so that all of them together are as near to the height as can be. */
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

/** How bad a row is that fills the width at so many times the height it should have. */
function costOf(times, last) {
  // Low rows are worse than high ones: pictures are there to be seen.
  const off = Math.log(times) ** 2 * (times < 0.75 ? 2 : 1);
  // The last one need not fill it; the less it does, the worse it looks.
  return last && times > FULL ? EMPTY * (1 - 1 / times) + EMPTY / 4 : off * (times > FULL ? 4 : 1);
}
