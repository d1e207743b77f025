// The map's camera: compute the visible part, conversions between map and window, and animations.

const MAX_SCALE = 400_000;
/** Pixels around the map when all of it is shown. */
const MARGIN = 36;
const MAX_ASPECT_RATIO = 2;
/** How near to fly: half the pixels between neighbours if points were spread evenly. */
const SPACING = 80;

export class Camera {
  x = 0;
  y = 0;
  /** Pixels per map unit. */
  scale = 100;
  width = 1;
  height = 1;
  /** The map's extent from its middle, per axis: more along the longer side of the window. */
  reach = [1, 1];
  #flight = null;

  /** Set the size of the window onto the map, in pixels. */
  resize(width, height) {
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
    const ratio = Math.max(1 / MAX_ASPECT_RATIO, Math.min(MAX_ASPECT_RATIO, this.width / this.height));
    this.reach = [Math.max(1, ratio), Math.max(1, 1 / ratio)];
    this.scale = Math.max(this.scale, this.minScale);
  }

  /** The scale at which all of the map is in view. */
  get whole() {
    const across = (this.width - 2 * MARGIN) / (2 * this.reach[0]);
    const down = (this.height - 2 * MARGIN) / (2 * this.reach[1]);
    return Math.max(20, Math.min(across, down));
  }

  get minScale() {
    return this.whole * 0.7;
  }

  toScreen(x, y) {
    return [this.width / 2 + (x - this.x) * this.scale, this.height / 2 - (y - this.y) * this.scale];
  }

  toMap(left, top) {
    return [this.x + (left - this.width / 2) / this.scale, this.y - (top - this.height / 2) / this.scale];
  }

  /** Move by so many pixels. */
  move(across, down) {
    this.#flight = null;
    this.#look(this.x - across / this.scale, this.y + down / this.scale, this.scale);
  }

  /** Zoom by a factor around a place in the window. */
  zoom(factor, left = this.width / 2, top = this.height / 2) {
    this.#flight = null;
    const [x, y] = this.toMap(left, top);
    const scale = this.#clamp(this.scale * factor);
    this.#look(x - (left - this.width / 2) / scale, y + (top - this.height / 2) / scale, scale);
  }

  /** The current view, or the one that the camera is flying to. */
  get target() {
    const { x, y, scale } = this.#flight?.to ?? this;
    return { x, y, scale };
  }

  /** Start to fly to a view; jump there if not `animated`. */
  fly({ x, y, scale }, now, animated) {
    const to = { x, y, scale: this.#clamp(scale) };
    if (!animated) {
      this.#flight = null;
      this.#look(to.x, to.y, to.scale);
      return;
    }
    const far = Math.hypot(x - this.x, y - this.y) * Math.min(this.scale, to.scale) / Math.min(this.width, this.height);
    const span = 350 + 250 * Math.min(1.5, far) + 120 * Math.min(4, Math.abs(Math.log2(to.scale / this.scale)));
    this.#flight = { from: { x: this.x, y: this.y, scale: this.scale }, to, began: now, span };
  }

  /** Advance the flight. @returns {boolean} whether it goes on */
  step(now) {
    if (!this.#flight) return false;
    const { from, to, began, span } = this.#flight;
    const part = Math.min(1, (now - began) / span);
    const eased = part < 0.5 ? 4 * part ** 3 : 1 - (2 - 2 * part) ** 3 / 2;
    const scale = from.scale * (to.scale / from.scale) ** eased;
    // A straight line on the screen: the nearer the camera, the smaller the steps sideways.
    const along = from.scale === to.scale ? eased : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / to.scale);
    this.#look(from.x + (to.x - from.x) * along, from.y + (to.y - from.y) * along, scale);
    if (part === 1) this.#flight = null;
    return part < 1;
  }

  /**
   * The view that contains all of these points, with some space around them.
   * @param {[number, number][]} points
   * @param {number} count  the number of points on the whole map
   */
  around(points, count) {
    const nearest = Math.max(this.whole, Math.min(4_000, SPACING * Math.sqrt(count)));
    const xs = points.map(([x]) => x);
    const ys = points.map(([, y]) => y);
    const [left, right] = [Math.min(...xs), Math.max(...xs)];
    const [bottom, top] = [Math.min(...ys), Math.max(...ys)];
    const scale = Math.min(
      (this.width - 160) / Math.max(right - left, 1e-6),
      (this.height - 160) / Math.max(top - bottom, 1e-6),
      nearest,
    );
    return { x: (left + right) / 2, y: (bottom + top) / 2, scale: Math.max(scale, this.whole) };
  }

  #clamp(scale) {
    return Math.max(this.minScale, Math.min(MAX_SCALE, scale));
  }

  #look(x, y, scale) {
    const [right, top] = this.reach;
    this.x = Math.max(-right, Math.min(right, x));
    this.y = Math.max(-top, Math.min(top, y));
    this.scale = scale;
  }
}
