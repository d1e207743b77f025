// Draw the minimap: the whole map, small, with a frame around the visible part.

/** Points that are drawn at most. */
const MAX_POINTS = 3_000;
const MARGIN = 1.08;

export class Minimap {
  #canvas;
  #scale = 1;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(x: number, y: number) => void} onPress  a point of the map was clicked
   */
  constructor(canvas, onPress) {
    this.#canvas = canvas;
    canvas.addEventListener("pointerdown", (event) => {
      const { clientWidth: width, clientHeight: height } = canvas;
      const scale = this.#scale;
      onPress((event.offsetX - width / 2) / scale, -(event.offsetY - height / 2) / scale);
    });
  }

  /**
   * @param {import("./camera.js").Camera} camera
   * @param {Float32Array} xy
   * @param {Iterable<number>} highlighted  points
   * @param {object} colours  by the name of the CSS property
   */
  paint(camera, xy, highlighted, colours) {
    const canvas = this.#canvas;
    const context = canvas.getContext("2d");
    const { clientWidth: width, clientHeight: height } = canvas;
    const density = Math.min(2, devicePixelRatio || 1);
    if (canvas.width !== width * density) [canvas.width, canvas.height] = [width * density, height * density];
    const [across, up] = camera.reach;
    const scale = Math.min(width / across, height / up) / (2 * MARGIN);
    this.#scale = scale;
    const at = (x, y) => [width / 2 + x * scale, height / 2 - y * scale];
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    const dot = (point, side) => {
      const [left, top] = at(xy[2 * point], xy[2 * point + 1]);
      context.fillRect(left - side / 2, top - side / 2, side, side);
    };
    const count = xy.length / 2;
    context.fillStyle = colours["--map-dot"];
    context.globalAlpha = count > 5_000 ? 0.35 : 0.6;
    for (let point = 0; point < count; point += Math.max(1, Math.floor(count / MAX_POINTS))) dot(point, 1.5);
    context.globalAlpha = 1;
    context.fillStyle = colours["--map-highlight"];
    for (const point of highlighted) dot(point, 3);
    const [left, top] = at(...camera.toMap(0, 0)).map((side) => Math.max(1, side));
    const [right, bottom] = at(...camera.toMap(camera.width, camera.height));
    context.strokeStyle = colours["--map-focus"];
    context.lineWidth = 1.5;
    context.strokeRect(left, top, Math.min(width - 1, right) - left, Math.min(height - 1, bottom) - top);
  }
}
