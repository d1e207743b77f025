// The justified grid: rows of one height each that fill the width. Pure computing, no elements.

const NARROWEST = 0.5;
const WIDEST = 3.2;

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
 * @param {{width: number, target: number, gap: number, complete: boolean, alone?: number}} options
 *   width, target, gap: pixels; complete: nothing comes after these, so a last row that is not
 *   full is shown as it is; alone: how much higher than `target` a row may be that is the only one
 * @returns {{boxes: {x: number, y: number, width: number, height: number, row: number}[],
 *   height: number}}  a box for each picture; fewer where the last row waits for what comes
 */
export function justify(ratios, { width, target, gap, complete, alone = 1 }) {
  const boxes = [];
  let y = 0;
  let begin = 0;
  let row = 0;
  const place = (end, height) => {
    let x = 0;
    for (let at = begin; at < end; at += 1) {
      const wide = ratios[at] * height;
      boxes.push({ x, y, width: wide, height, row });
      x += wide + gap;
    }
    y += height + gap;
    row += 1;
    begin = end;
  };
  const heightOf = (first, end) => {
    let sum = 0;
    for (let at = first; at < end; at += 1) sum += ratios[at];
    return (width - gap * (end - first - 1)) / sum;
  };
  for (let end = 1; end <= ratios.length; end += 1) {
    const height = heightOf(begin, end);
    if (height > target) continue;
    // One picture less makes the row higher: take whichever is nearer to what it should be.
    const without = end - begin > 1 ? heightOf(begin, end - 1) : Infinity;
    if (without / target < target / height) {
      place(end - 1, without);
      if (heightOf(begin, end) <= target) place(end, heightOf(begin, end));
    } else {
      place(end, height);
    }
  }
  if (begin < ratios.length && complete) {
    place(ratios.length, Math.min(target * (begin ? 1 : alone), heightOf(begin, ratios.length)));
  }
  return { boxes, height: Math.max(0, y - gap) };
}
