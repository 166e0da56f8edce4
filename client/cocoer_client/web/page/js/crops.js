/** Crops as the network gets them. */

/** Pixels of a crop's sides. */
export const CROP_SIDE = 224;

/**
 * Draw a crop: the box, whatever its shape, resized to a square.
 * @param canvas of `CROP_SIDE` x `CROP_SIDE`.
 * @param element the upright image; null: the browser can't show it, and the canvas is left empty.
 * @param box `[x1, y1, x2, y2]` in pixels of `size`.
 * @param size `{width, height}` of RESULT.
 */
export function drawCrop(canvas, element, [x1, y1, x2, y2], { width, height }) {
  [canvas.width, canvas.height] = [CROP_SIDE, CROP_SIDE];
  if (!element) return;
  const [across, down] = [element.naturalWidth / width, element.naturalHeight / height];
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(element, x1 * across, y1 * down, (x2 - x1) * across, (y2 - y1) * down, 0, 0, CROP_SIDE, CROP_SIDE);
}
