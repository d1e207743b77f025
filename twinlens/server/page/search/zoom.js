// Zoom into the viewer's picture: wheel, double click, pinch, keys; drag to move it.

const LARGEST = 8;
/** The scale after a double click. */
const CLOSER = 2.5;
/** The scale of one press of a key, and of one pixel of the wheel. */
const STEP = 1.5;
const WHEEL = 0.0022;

/**
 * @param {HTMLElement} stage  what the picture lies in; it gets the pointer's events
 * @param {HTMLImageElement} image
 * @returns {{reset: () => void, isZoomed: () => boolean, zoom: (direction: number) => void}}
 *   zoom: one step closer (1) or farther away (-1); 0 shows the whole picture
 */
export function createZoom(stage, image) {
  let scale = 1;
  let x = 0;
  let y = 0;
  const pointers = new Map();

  function draw() {
    // The picture covers its place, or is centred in it.
    const most = (side) => Math.max(0, (side * (scale - 1)) / 2);
    x = Math.min(most(image.offsetWidth), Math.max(-most(image.offsetWidth), x));
    y = Math.min(most(image.offsetHeight), Math.max(-most(image.offsetHeight), y));
    image.style.transform = scale > 1 ? `translate(${x}px, ${y}px) scale(${scale})` : "";
    stage.classList.toggle("zoomed", scale > 1);
  }

  /** Scale by a factor; the point of the window stays where it is. */
  function scaleBy(factor, clientX, clientY) {
    const box = image.getBoundingClientRect();
    const next = Math.min(LARGEST, Math.max(1, scale * factor));
    const [fromX, fromY] = [clientX - (box.left + box.right) / 2, clientY - (box.top + box.bottom) / 2];
    x -= fromX * (next / scale - 1);
    y -= fromY * (next / scale - 1);
    scale = next;
    draw();
  }

  function middle() {
    const box = stage.getBoundingClientRect();
    return [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
  }

  function reset() {
    scale = 1;
    x = 0;
    y = 0;
    draw();
  }

  stage.addEventListener("wheel", (event) => {
    if (image.hidden) return;
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    scaleBy(Math.exp(-pixels * WHEEL), event.clientX, event.clientY);
  }, { passive: false });
  // While the picture is zoomed in, the stage captures the pointer, and gets the clicks.
  stage.addEventListener("dblclick", (event) => {
    if (image.hidden || (event.target !== image && scale === 1)) return;
    if (scale > 1) reset();
    else scaleBy(CLOSER, event.clientX, event.clientY);
  });
  image.addEventListener("dragstart", (event) => {
    if (scale > 1) event.preventDefault();
  });

  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button") || (event.pointerType === "mouse" && event.button)) return;
    pointers.set(event.pointerId, event);
    if (scale > 1 || pointers.size > 1) stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    pointers.set(event.pointerId, event);
    if (pointers.size === 2) {
      const [other] = [...pointers.values()].filter((one) => one.pointerId !== event.pointerId);
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const [centreX, centreY] = [(event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2];
      if (apart(before) > 0) scaleBy(apart(event) / apart(before), centreX, centreY);
    } else if (scale > 1) {
      x += event.clientX - before.clientX;
      y += event.clientY - before.clientY;
      draw();
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }

  return {
    reset,
    isZoomed: () => scale > 1,
    zoom(direction) {
      if (direction) scaleBy(direction > 0 ? STEP : 1 / STEP, ...middle());
      else reset();
    },
  };
}
