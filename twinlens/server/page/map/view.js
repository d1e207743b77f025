// The map itself: points and pictures on a canvas.

import { Camera } from "./camera.js";
import { attachHands } from "./input.js";
import { Mini } from "./minimap.js";
import { GAP, Levels, fewOf, levelOf, sizeAt } from "./points.js";

/** Milliseconds in which a picture appears. */
const FADE = 220;
/** Pixels within which a dot is meant. */
const NEAR = 14;
const NEAR_TOUCH = 26;
/** Pictures that are drawn at most, and found ones that are drawn as pictures. */
const MOST = 420;
const MOST_LIT = 60;

export class MapView {
  camera = new Camera();
  #canvas;
  #mini;
  #thumbnails;
  #on;
  #ids = [];
  #given = new Float32Array(0);
  #xy = new Float32Array(0);
  #levels = new Levels(new Float32Array(0), 1);
  /** What was found: place in the ranking by point. */
  #lit = new Map();
  #focus = -1;
  #boxes = [];
  #frame = 0;
  #settled = 0;
  #still = matchMedia("(prefers-reduced-motion: reduce)");
  #colours = {};

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLCanvasElement} mini  the small one that shows all
   * @param {object} on  `point(point)`: the mouse is over a point, -1 for none;
   *   `press(point, event)`: it was clicked; `settle()`: the view has come to rest
   */
  constructor(canvas, mini, on) {
    this.#canvas = canvas;
    this.#mini = new Mini(mini, (x, y) => this.#fly({ x, y, scale: this.camera.aim.scale }, true));
    this.#on = on;
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#listen();
    const restyle = () => this.#restyle();
    new MutationObserver(restyle).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
    this.#restyle();
  }

  /** Where thumbnails come from: see map-thumbnails.js. */
  set thumbnails(value) {
    this.#thumbnails = value;
  }

  /** Show these points; x and y from -1 to 1. */
  show(ids, xy) {
    this.#ids = ids;
    this.#given = xy;
    this.#lit = new Map();
    this.#focus = -1;
    this.#stretch();
    this.reset(false);
  }

  /** Show further points behind those that are shown, without moving. */
  add(ids, xy) {
    this.#ids = ids;
    this.#given = xy;
    this.#stretch();
    this.draw();
  }

  /** Light points up, the best first; none puts the light out. */
  light(points) {
    this.#lit = new Map(points.map((point, place) => [point, place]));
    this.draw();
  }

  /** The point that a list or a card speaks of, -1 for none. */
  focus(point) {
    if (this.#focus === point) return;
    this.#focus = point;
    this.draw();
  }

  /** Show all of the map. */
  reset(moving = true) {
    this.#fly({ x: 0, y: 0, scale: this.camera.whole }, moving);
  }

  zoom(factor) {
    const { x, y, scale } = this.camera.aim;
    this.#fly({ x, y, scale: scale * factor }, true);
  }

  /** Move by so many pixels. */
  pan(across, down) {
    const { x, y, scale } = this.camera.aim;
    this.#fly({ x: x - across / scale, y: y + down / scale, scale }, true);
  }

  /** Fly to where most of these points are. */
  flyTo(points) {
    if (points.length) this.#fly(this.camera.around(this.#core(points), this.#ids.length), true);
  }

  /** Where a point is in the window, and how large its picture. */
  place(point) {
    const [left, top] = this.camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
    const box = this.#boxes.find((one) => one.point === point);
    return { left, top, size: box ? box.size : 10 };
  }

  /** The points in view, nearest the middle first. */
  inView(limit) {
    const { width, height } = this.camera;
    const found = [];
    for (let point = 0; point < this.#ids.length; point += 1) {
      const [left, top] = this.camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      if (left < 0 || top < 0 || left > width || top > height) continue;
      const lit = this.#lit.get(point);
      const far = Math.hypot(left - width / 2, top - height / 2);
      found.push([lit === undefined ? 1e6 + far : lit, point]);
    }
    found.sort((one, other) => one[0] - other[0]);
    return { count: found.length, points: found.slice(0, limit).map(([, point]) => point) };
  }

  /** Draw with the next frame. */
  draw() {
    this.#frame ||= requestAnimationFrame((now) => {
      this.#frame = 0;
      this.#paint(now);
    });
  }

  #fly(view, moving) {
    this.camera.fly(view, performance.now(), moving && !this.#still.matches);
    this.draw();
    this.#settle();
  }

  /** Without those far from the others, so that one stray does not show all of the map. */
  #core(points) {
    const places = points.map((point) => [this.#xy[2 * point], this.#xy[2 * point + 1]]);
    const middle = (axis) => places.map((one) => one[axis]).sort((a, b) => a - b)[places.length >> 1];
    const [x, y] = [middle(0), middle(1)];
    const far = (one) => Math.hypot(one[0] - x, one[1] - y);
    return places.sort((a, b) => far(a) - far(b)).slice(0, Math.max(1, Math.ceil(places.length * 0.6)));
  }

  #stretch() {
    const [across, up] = this.camera.reach;
    this.#xy = this.#given.map((value, at) => value * (at % 2 ? up : across));
    this.#levels = new Levels(this.#xy, Math.max(across, up));
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
    for (const name of ["--map-dot", "--map-lit", "--map-halo", "--map-frame", "--map-focus"]) {
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
    this.#mini.paint(this.camera, this.#xy, this.#lit.keys(), this.#colours);
    if (flying || fading) this.draw();
  }

  /** Decide what is shown as a picture, and where. */
  #choose() {
    const { camera } = this;
    const size = sizeAt(camera.scale, fewOf(this.#ids.length));
    const level = levelOf(camera.scale);
    const first = this.#levels.upTo(level);
    const boxes = [];
    const within = (left, top) =>
      left > -size && top > -size && left < camera.width + size && top < camera.height + size;
    // What was found comes first, and larger; the others take the room that is left.
    const best = [...this.#lit.keys()].slice(0, MOST_LIT);
    for (const point of best) {
      const [left, top] = camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      const large = size * 1.25;
      if (!within(left, top) || boxes.some((box) => overlap(box, left, top, large))) continue;
      boxes.push({ point, left, top, size: large, lit: true });
    }
    const found = boxes.length;
    for (let point = 0; point < first.length && boxes.length < MOST; point += 1) {
      if (first[point] > level || this.#lit.has(point)) continue;
      const [left, top] = camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      if (!within(left, top)) continue;
      let free = true;
      for (let at = 0; free && at < found; at += 1) free = !overlap(boxes[at], left, top, size);
      if (free) boxes.push({ point, left, top, size, lit: false });
    }
    this.#boxes = boxes;
  }

  #paintDots(context) {
    const { camera } = this;
    const drawn = new Set(this.#boxes.filter((box) => this.#ready(box)).map((box) => box.point));
    this.#canvas.dataset.pictures = drawn.size;
    const radius = Math.min(4, 1.5 + 0.35 * Math.log2(camera.scale / camera.whole + 1));
    const dot = this.#dot(this.#colours["--map-dot"], radius);
    context.globalAlpha = this.#lit.size ? 0.35 : 0.8;
    for (let point = 0; point < this.#ids.length; point += 1) {
      if (drawn.has(point) || this.#lit.has(point)) continue;
      const [left, top] = camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      if (left < -9 || top < -9 || left > camera.width + 9 || top > camera.height + 9) continue;
      context.drawImage(dot.canvas, left - dot.side / 2, top - dot.side / 2, dot.side, dot.side);
    }
    context.globalAlpha = 1;
    context.fillStyle = this.#colours["--map-lit"];
    context.strokeStyle = this.#colours["--map-halo"];
    context.lineWidth = 1.5;
    for (const point of this.#lit.keys()) {
      if (drawn.has(point)) continue;
      const [left, top] = camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      context.beginPath();
      context.arc(left, top, radius + 2, 0, 7);
      context.fill();
      context.stroke();
    }
  }

  #ready(box) {
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

  /** @returns {boolean} whether a picture is still appearing */
  #paintPictures(context, now) {
    if (!this.#thumbnails) return false;
    this.#thumbnails.begin();
    let fading = false;
    const paint = (box) => {
      const got = this.#thumbnails.get(this.#ids[box.point], box.size);
      if (!got) return;
      const age = this.#still.matches ? 1 : Math.min(1, (now - got.since) / FADE);
      fading ||= age < 1;
      const dim = this.#lit.size && !box.lit && box.point !== this.#focus ? 0.3 : 1;
      context.globalAlpha = Math.max(0.02, age) * dim;
      this.#paintPicture(context, box, got.image);
    };
    // The best is painted last, on top, and so loaded last: ask for it first.
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
    context.strokeStyle = this.#colours[box.lit ? "--map-lit" : "--map-frame"];
    context.lineWidth = box.lit ? 2.5 : 1;
    context.stroke();
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

  /** The point at a place of the window, -1 for none. */
  #at(left, top, near) {
    for (const box of this.#boxes) {
      const width = (box.width ?? 0) / 2;
      const height = (box.height ?? 0) / 2;
      if (this.#ready(box) && Math.abs(box.left - left) <= width && Math.abs(box.top - top) <= height) return box.point;
    }
    let best = -1;
    let least = near;
    for (let point = 0; point < this.#ids.length; point += 1) {
      const [x, y] = this.camera.toScreen(this.#xy[2 * point], this.#xy[2 * point + 1]);
      const far = Math.hypot(x - left, y - top) - (this.#lit.has(point) ? 4 : 0);
      if (far < least) [best, least] = [point, far];
    }
    return best;
  }

  #settle() {
    clearTimeout(this.#settled);
    this.#settled = setTimeout(() => this.#on.settle(), 160);
  }

  /** The point that an event of the pointer means, -1 for none. */
  #meant(event) {
    if (!event) return -1;
    return this.#at(event.offsetX, event.offsetY, event.pointerType === "mouse" ? NEAR : NEAR_TOUCH);
  }

  #listen() {
    attachHands(this.#canvas, this.camera, {
      move: () => {
        this.draw();
        this.#settle();
      },
      pan: (across, down) => this.pan(across, down),
      zoom: (factor) => this.zoom(factor),
      reset: () => this.reset(),
      point: (event) => {
        const point = this.#meant(event);
        this.#canvas.classList.toggle("over", point >= 0);
        this.#on.point(point);
      },
      press: (event) => this.#on.press(this.#meant(event), event),
    });
  }
}

function overlap(box, left, top, size) {
  const apart = (box.size + size) / 2 + GAP;
  return Math.abs(box.left - left) < apart && Math.abs(box.top - top) < apart;
}
