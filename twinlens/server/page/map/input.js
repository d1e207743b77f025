// Handle input on the map's canvas: wheel, mouse, touch and keyboard.

/** Pixels that the pointer may move during a click. */
const CLICK_TOLERANCE = 6;
const WHEEL_SPEED = 0.0016;
/** Browsers report a pinch on a touchpad as a wheel with Ctrl, in small steps: multiply them. */
const PINCH_SPEED = 6;

/**
 * Listen to a canvas and move the camera.
 * @param {HTMLCanvasElement} canvas
 * @param {import("./camera.js").Camera} camera
 * @param {object} on  `move()`: the camera has moved; `pan(across, down)`, `zoom(factor)` and
 *   `reset()`: a key asks for that move; `point(event)`: the mouse hovers, null: not any more;
 *   `press(event)`: a click or tap
 */
export function attachInput(canvas, camera, on) {
  const pointers = new Map();
  let moved = 0;

  const pinch = (before, now, other) => {
    const apart = (place) => Math.max(8, Math.hypot(place[0] - other[0], place[1] - other[1]));
    camera.move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    camera.zoom(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    moved = CLICK_TOLERANCE + 1;
  };

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    const speed = WHEEL_SPEED * lines * (event.ctrlKey ? PINCH_SPEED : 1);
    camera.zoom(Math.exp(-Math.max(-300, Math.min(300, event.deltaY)) * speed), event.offsetX, event.offsetY);
    on.point(null);
    on.move();
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    if (!pointers.size) moved = 0;
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    canvas.classList.add("dragging");
  });

  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse" && !event.buttons) on.point(event);
      return;
    }
    const now = [event.offsetX, event.offsetY];
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    pointers.set(event.pointerId, now);
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (other) pinch(before, now, other);
    else camera.move(now[0] - before[0], now[1] - before[1]);
    if (moved > CLICK_TOLERANCE) on.point(null);
    on.move();
  });

  const end = (event) => {
    const pressed = pointers.delete(event.pointerId);
    if (pointers.size) return;
    canvas.classList.remove("dragging");
    if (pressed && event.type === "pointerup" && moved <= CLICK_TOLERANCE) on.press(event);
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") on.point(null);
  });

  canvas.addEventListener("dblclick", (event) => {
    camera.zoom(2, event.offsetX, event.offsetY);
    on.move();
  });

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 240 : 80;
    const steps = { ArrowLeft: [far, 0], ArrowRight: [-far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] };
    const zooms = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, _: 1 / 1.5 };
    if (steps[event.key]) on.pan(...steps[event.key]);
    else if (zooms[event.key]) on.zoom(zooms[event.key]);
    else if (event.key === "0" || event.key === "Home") on.reset();
    else return;
    event.preventDefault();
  });
}
