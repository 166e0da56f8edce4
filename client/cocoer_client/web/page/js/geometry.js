/** Boxes `[x1, y1, x2, y2]` in pixels of the upright image. Pure; knows nothing of the page. */

/** The least width and height of a box, pixels. */
export const MIN_SIDE = 4;

const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

/** The box between two points, in whole pixels, within the frame `[x1, y1, x2, y2]`, at least `MIN_SIDE` wide and high. */
export function boxOf([ax, ay], [bx, by], frame) {
  const [left, right] = span(ax, bx, frame[0], frame[2]);
  const [top, bottom] = span(ay, by, frame[1], frame[3]);
  return [left, top, right, bottom];
}

function span(a, b, low, high) {
  const first = clamp(Math.round(Math.min(a, b)), low, high - MIN_SIDE);
  return [first, clamp(Math.round(Math.max(a, b)), first + MIN_SIDE, high)];
}

/** The box moved by (dx, dy) as far as it stays within the frame; its size stays. */
export function moved([x1, y1, x2, y2], dx, dy, frame) {
  const x = clamp(Math.round(dx), frame[0] - x1, frame[2] - x2);
  const y = clamp(Math.round(dy), frame[1] - y1, frame[3] - y2);
  return [x1 + x, y1 + y, x2 + x, y2 + y];
}

/**
 * The box with a corner or side drawn by (dx, dy).
 * @param handle letters of `n`, `s`, `w`, `e`: the sides that move.
 */
export function resized([x1, y1, x2, y2], handle, dx, dy, frame) {
  return [
    handle.includes("w") ? clamp(Math.round(x1 + dx), frame[0], x2 - MIN_SIDE) : x1,
    handle.includes("n") ? clamp(Math.round(y1 + dy), frame[1], y2 - MIN_SIDE) : y1,
    handle.includes("e") ? clamp(Math.round(x2 + dx), x1 + MIN_SIDE, frame[2]) : x2,
    handle.includes("s") ? clamp(Math.round(y2 + dy), y1 + MIN_SIDE, frame[3]) : y2,
  ];
}

/** The box made to lie within another: moved first, then cut. */
export function within([x1, y1, x2, y2], frame) {
  const [width, height] = [Math.min(x2 - x1, frame[2] - frame[0]), Math.min(y2 - y1, frame[3] - frame[1])];
  const left = clamp(x1, frame[0], frame[2] - width);
  const top = clamp(y1, frame[1], frame[3] - height);
  return [left, top, left + width, top + height];
}

/** A body for a person that is added without drawing it: in the middle of the image. */
export function centredBody(width, height) {
  return [0.3 * width, 0.2 * height, 0.7 * width, 0.95 * height].map(Math.round);
}

/** A head for a body: its upper middle. */
export function headOf([x1, y1, x2, y2]) {
  const [width, height] = [x2 - x1, y2 - y1];
  const side = Math.max(MIN_SIDE, Math.min(width / 2, height / 3));
  const middle = (x1 + x2) / 2;
  return within([middle - side / 2, y1 + height * 0.04, middle + side / 2, y1 + height * 0.04 + side].map(Math.round), [x1, y1, x2, y2]);
}

/** A box as fractions of the image: `{left, top, width, height}`. */
export function fractions([x1, y1, x2, y2], width, height) {
  return { left: x1 / width, top: y1 / height, width: (x2 - x1) / width, height: (y2 - y1) / height };
}

export const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
