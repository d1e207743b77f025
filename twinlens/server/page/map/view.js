// Draw the map on a canvas: dots, pictures, highlights; and find the point under the pointer.

import { Camera } from "./camera.js";
import { attachInput } from "./input.js";
import { Minimap } from "./minimap.js";
import { GAP, Levels, enlargementOf, levelOf, sizeAt } from "./points.js";

/** Milliseconds in which a picture fades in. */
const FADE = 220;
/** A click counts for a dot within this many pixels. */
const MOUSE_RADIUS = 14;
const TOUCH_RADIUS = 26;
/** Drawn pictures at most, and how many of them may be highlighted. */
const MAX_PICTURES = 420;
const MAX_HIGHLIGHTED = 60;

export class MapView {
  camera = new Camera();
  #canvas;
  #minimap;
  #thumbnails;
  #on;
  #ids = [];
  #original = new Float32Array(0);
  #xy = new Float32Array(0);
  #levels = new Levels(new Float32Array(0), 1);
  /** Highlighted points, and their rank. */
  #highlighted = new Map();
  #focus = -1;
  #regions = [];
  #boxes = [];
  #frame = 0;
  #settled = 0;
  #reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  #colours = {};

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLCanvasElement} minimap
   * @param {object} on  `point(point)`: the mouse is over a point, -1 for none;
   *   `press(point, event)`: a point was clicked; `settle()`: the view stopped moving
   */
  constructor(canvas, minimap, on) {
    this.#canvas = canvas;
    this.#minimap = new Minimap(minimap, (x, y) => this.#fly({ x, y, scale: this.camera.target.scale }, true));
    this.#on = on;
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#listen();
    new MutationObserver(() => this.#restyle()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    this.#restyle();
  }

  /** @param {import("./thumbnails.js").Thumbnails} value */
  set thumbnails(value) {
    this.#thumbnails = value;
  }

  /** Show these points; x and y from -1 to 1. */
  show(ids, xy) {
    this.#ids = ids;
    this.#original = xy;
    this.#highlighted = new Map();
    this.#regions = [];
    this.#focus = -1;
    this.#stretch();
    this.reset(false);
  }

  /** Replace the points by a longer list, without moving the camera. */
  add(ids, xy) {
    this.#ids = ids;
    this.#original = xy;
    this.#stretch();
    this.draw();
  }

  /** Highlight points, the best first; an empty list removes all highlights. */
  highlight(points) {
    this.#highlighted = new Map(points.map((point, place) => [point, place]));
    this.draw();
  }

  /** @param {{name: string, point: number}[]} value  the names of parts of the map, and the points that have them */
  set regions(value) {
    this.#regions = value;
    this.#stretch();
    this.draw();
  }

  /** Mark the point of the list entry or card in focus, -1 for none. */
  focus(point) {
    if (this.#focus === point) return;
    this.#focus = point;
    this.draw();
  }

  /** Show all of the map. */
  reset(animated = true) {
    this.#fly({ x: 0, y: 0, scale: this.camera.whole }, animated);
  }

  zoom(factor) {
    const { x, y, scale } = this.camera.target;
    this.#fly({ x, y, scale: scale * factor }, true);
  }

  /** Move by so many pixels. */
  pan(across, down) {
    const { x, y, scale } = this.camera.target;
    this.#fly({ x: x - across / scale, y: y + down / scale, scale }, true);
  }

  /** Fly to where most of these points are. */
  flyTo(points) {
    if (points.length) this.#fly(this.camera.around(this.#core(points), this.#ids.length), true);
  }

  /** A point's place in the window, and the size of its picture. */
  place(point) {
    const [left, top] = this.camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
    const box = this.#boxes.find((one) => one.point === point);
    return { left, top, size: box ? box.size : 10 };
  }

  /** The points in view: highlighted ones by rank, then those nearest to the middle. */
  inView(limit) {
    const { width, height } = this.camera;
    const found = [];
    for (let point = 0; point < this.#ids.length; point += 1) {
      const [left, top] = this.camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      if (left < 0 || top < 0 || left > width || top > height) continue;
      const rank = this.#highlighted.get(point);
      const far = Math.hypot(left - width / 2, top - height / 2);
      found.push([rank === undefined ? 1e6 + far : rank, point]);
    }
    found.sort((one, other) => one[0] - other[0]);
    return { count: found.length, points: found.slice(0, limit).map(([, point]) => point) };
  }

  /** Draw in the next frame. */
  draw() {
    this.#frame ||= requestAnimationFrame((now) => {
      this.#frame = 0;
      this.#paint(now);
    });
  }

  #fly(view, animated) {
    this.camera.fly(view, performance.now(), animated && !this.#reducedMotion.matches);
    this.draw();
    this.#settle();
  }

  /** The 60 % of the points nearest to their median: an outlier must not zoom out the view. */
  #core(points) {
    const places = points.map((point) => [this.#xy[2 * point], this.#xy[2 * point + 1]]);
    const middle = (axis) => places.map((one) => one[axis]).sort((a, b) => a - b)[places.length >> 1];
    const [x, y] = [middle(0), middle(1)];
    const far = (one) => Math.hypot(one[0] - x, one[1] - y);
    return places.sort((a, b) => far(a) - far(b)).slice(0, Math.max(1, Math.ceil(places.length * 0.6)));
  }

  #stretch() {
    const [across, up] = this.camera.reach;
    this.#xy = this.#original.map((value, at) => value * (at % 2 ? up : across));
    this.#levels = new Levels(this.#xy, Math.max(across, up), this.#regions.map(({ point }) => point));
  }

  #resize() {
    const { clientWidth, clientHeight } = this.#canvas;
    const density = Math.min(2, devicePixelRatio || 1);
    this.#canvas.width = Math.round(clientWidth * density);
    this.#canvas.height = Math.round(clientHeight * density);
    const whole = this.camera.scale <= this.camera.whole * 1.01;
    const before = this.camera.reach;
    this.camera.resize(clientWidth, clientHeight);
    const { x, y, reach } = this.camera;
    if (reach[0] !== before[0] || reach[1] !== before[1]) {
      this.#stretch();
      if (!whole) this.camera.fly({ x: (x * reach[0]) / before[0], y: (y * reach[1]) / before[1], scale: this.camera.scale }, 0, false);
    }
    if (whole) this.reset(false);
    this.draw();
    this.#settle();
  }

  #restyle() {
    const style = getComputedStyle(this.#canvas);
    for (const name of ["--map-dot", "--map-highlight", "--map-halo", "--map-frame", "--map-focus", "--map-name"]) {
      this.#colours[name] = style.getPropertyValue(name).trim() || "gray";
    }
    this.draw();
  }

  #paint(now) {
    const flying = this.camera.step(now);
    if (flying) this.#settle();
    const context = this.#canvas.getContext("2d");
    const density = this.#canvas.width / this.camera.width;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, this.camera.width, this.camera.height);
    this.#choose();
    this.#paintDots(context);
    const fading = this.#paintPictures(context, now);
    this.#paintRegions(context);
    this.#minimap.paint(this.camera, this.#xy, this.#highlighted.keys(), this.#colours);
    if (flying || fading) this.draw();
  }

  /** Choose the points that are drawn as pictures, and their boxes. */
  #choose() {
    const { camera } = this;
    const size = sizeAt(camera.scale, enlargementOf(this.#ids.length));
    const level = levelOf(camera.scale);
    const first = this.#levels.upTo(level);
    const boxes = [];
    const within = (left, top) =>
      left > -size && top > -size && left < camera.width + size && top < camera.height + size;
    // Highlighted pictures come first, and are larger; others fill the remaining space.
    const best = [...this.#highlighted.keys()].slice(0, MAX_HIGHLIGHTED);
    for (const point of best) {
      const [left, top] = camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      const large = size * 1.25;
      if (!within(left, top) || boxes.some((box) => overlap(box, left, top, large))) continue;
      boxes.push({ point, left, top, size: large, highlighted: true });
    }
    const found = boxes.length;
    const add = (point) => {
      if (first[point] > level || this.#highlighted.has(point)) return;
      const [left, top] = camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      if (!within(left, top)) return;
      let free = true;
      for (let at = 0; free && at < found; at += 1) free = !overlap(boxes[at], left, top, size);
      if (free) boxes.push({ point, left, top, size, highlighted: false });
    };
    const named = new Set(this.#regions.map(({ point }) => point));
    for (const point of named) add(point);
    for (let point = 0; point < first.length && boxes.length < MAX_PICTURES; point += 1) {
      if (!named.has(point)) add(point);
    }
    this.#boxes = boxes;
  }

  #paintDots(context) {
    const { camera } = this;
    const drawn = new Set(this.#boxes.filter((box) => this.#isLoaded(box)).map((box) => box.point));
    this.#canvas.dataset.pictures = drawn.size;
    const radius = Math.min(4, 1.5 + 0.35 * Math.log2(camera.scale / camera.whole + 1));
    const dot = this.#dot(this.#colours["--map-dot"], radius);
    context.globalAlpha = this.#highlighted.size ? 0.35 : 0.8;
    for (let point = 0; point < this.#ids.length; point += 1) {
      if (drawn.has(point) || this.#highlighted.has(point)) continue;
      const [left, top] = camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      if (left < -9 || top < -9 || left > camera.width + 9 || top > camera.height + 9) continue;
      context.drawImage(dot.canvas, left - dot.side / 2, top - dot.side / 2, dot.side, dot.side);
    }
    context.globalAlpha = 1;
    context.fillStyle = this.#colours["--map-highlight"];
    context.strokeStyle = this.#colours["--map-halo"];
    context.lineWidth = 1.5;
    for (const point of this.#highlighted.keys()) {
      if (drawn.has(point)) continue;
      const [left, top] = camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      context.beginPath();
      context.arc(left, top, radius + 2, 0, 7);
      context.fill();
      context.stroke();
    }
  }

  #isLoaded(box) {
    return this.#thumbnails?.has(this.#ids[box.point]);
  }

  #dot(colour, radius) {
    const density = Math.min(2, devicePixelRatio || 1);
    const name = `${colour} ${radius.toFixed(1)} ${density}`;
    if (this.#colours.dot?.name !== name) {
      const side = 2 * Math.ceil(radius + 1);
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = side * density;
      const context = canvas.getContext("2d");
      context.scale(density, density);
      context.fillStyle = colour;
      context.arc(side / 2, side / 2, radius, 0, 7);
      context.fill();
      this.#colours.dot = { name, canvas, side };
    }
    return this.#colours.dot;
  }

  /** @returns {boolean} whether a picture is still fading in */
  #paintPictures(context, now) {
    if (!this.#thumbnails) return false;
    this.#thumbnails.begin();
    let fading = false;
    const paint = (box) => {
      const got = this.#thumbnails.get(this.#ids[box.point], box.size);
      if (!got) return;
      const age = this.#reducedMotion.matches ? 1 : Math.min(1, (now - got.since) / FADE);
      fading ||= age < 1;
      const dim = this.#highlighted.size && !box.highlighted && box.point !== this.#focus ? 0.3 : 1;
      context.globalAlpha = Math.max(0.02, age) * dim;
      this.#paintPicture(context, box, got.image);
    };
    // Request thumbnails best first. Paint in reverse order, so that the best is on top.
    for (const box of this.#boxes) this.#thumbnails.get(this.#ids[box.point], box.size);
    for (let at = this.#boxes.length - 1; at >= 0; at -= 1) paint(this.#boxes[at]);
    context.globalAlpha = 1;
    this.#paintFocus(context);
    this.#thumbnails.end();
    return fading;
  }

  #paintPicture(context, box, image) {
    const scale = box.size / Math.max(image.naturalWidth, image.naturalHeight);
    const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
    const [left, top] = [box.left - width / 2, box.top - height / 2];
    box.width = width;
    box.height = height;
    const round = Math.min(8, box.size / 12);
    context.save();
    context.beginPath();
    context.roundRect(left, top, width, height, round);
    context.clip();
    context.drawImage(image, left, top, width, height);
    context.restore();
    context.beginPath();
    context.roundRect(left, top, width, height, round);
    context.strokeStyle = this.#colours[box.highlighted ? "--map-highlight" : "--map-frame"];
    context.lineWidth = box.highlighted ? 2.5 : 1;
    context.stroke();
  }

  /** Write the names of regions at the foot of the pictures that have them, as long as most of the map is in view. */
  #paintRegions(context) {
    const zoomed = this.camera.scale / this.camera.whole;
    const boxes = new Map(this.#boxes.map((box) => [box.point, box]));
    // A picture that another one hides at this zoom has no name, either: it would be on the other.
    const shown = zoomed < 2.5 && !this.#highlighted.size ? this.#regions.filter(({ point }) => boxes.has(point)) : [];
    this.#canvas.dataset.regions = shown.map(({ name }) => name).join(", ");
    if (!shown.length) return;
    context.font = "600 15px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 5;
    context.strokeStyle = this.#colours["--map-halo"];
    context.fillStyle = this.#colours["--map-name"];
    for (const { name, point } of shown) {
      const { left, top, size, height = size } = boxes.get(point);
      context.strokeText(name, left, top + height / 2);
      context.fillText(name, left, top + height / 2);
    }
  }

  #paintFocus(context) {
    if (this.#focus < 0) return;
    const { left, top } = this.place(this.#focus);
    const box = this.#boxes.find((one) => one.point === this.#focus);
    context.strokeStyle = this.#colours["--map-focus"];
    context.lineWidth = 3;
    context.beginPath();
    const got = box && this.#thumbnails.get(this.#ids[box.point], box.size);
    if (got) {
      this.#paintPicture(context, box, got.image);
      context.strokeStyle = this.#colours["--map-focus"];
      context.lineWidth = 3;
      context.beginPath();
      context.roundRect(left - box.width / 2 - 2, top - box.height / 2 - 2, box.width + 4, box.height + 4, 9);
    } else {
      context.arc(left, top, 8, 0, 7);
    }
    context.stroke();
  }

  /** The point at a place in the window, -1 for none. */
  #pointAt(left, top, radius) {
    for (const box of this.#boxes) {
      const width = (box.width ?? 0) / 2;
      const height = (box.height ?? 0) / 2;
      if (this.#isLoaded(box) && Math.abs(box.left - left) <= width && Math.abs(box.top - top) <= height) return box.point;
    }
    let best = -1;
    let least = radius;
    for (let point = 0; point < this.#ids.length; point += 1) {
      const [x, y] = this.camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      const far = Math.hypot(x - left, y - top) - (this.#highlighted.has(point) ? 4 : 0);
      if (far < least) [best, least] = [point, far];
    }
    return best;
  }

  #settle() {
    clearTimeout(this.#settled);
    this.#settled = setTimeout(() => this.#on.settle(), 160);
  }

  /** The point under a pointer event, -1 for none. */
  #pointOf(event) {
    if (!event) return -1;
    return this.#pointAt(event.offsetX, event.offsetY, event.pointerType === "mouse" ? MOUSE_RADIUS : TOUCH_RADIUS);
  }

  #listen() {
    attachInput(this.#canvas, this.camera, {
      move: () => {
        this.draw();
        this.#settle();
      },
      pan: (across, down) => this.pan(across, down),
      zoom: (factor) => this.zoom(factor),
      reset: () => this.reset(),
      point: (event) => {
        const point = this.#pointOf(event);
        this.#canvas.classList.toggle("over", point >= 0);
        this.#on.point(point);
      },
      press: (event) => this.#on.press(this.#pointOf(event), event),
    });
  }
}

function overlap(box, left, top, size) {
  const apart = (box.size + size) / 2 + GAP;
  return Math.abs(box.left - left) < apart && Math.abs(box.top - top) < apart;
}
