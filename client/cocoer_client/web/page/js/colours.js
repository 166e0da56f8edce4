/** Colours of persons and levels, as everywhere else in CocoER (drawing/figures.py, drawing/levels.py). */

/** Okabe and Ito's, less those too dark on a dark panel. */
export const PERSON_COLOURS = ["#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#FFFFFF"];

/** The colour of a person's number, which counts from 1. */
export function colourOf(number) {
  return PERSON_COLOURS[(number - 1) % PERSON_COLOURS.length];
}

/** Whether a person's boxes are dashed: the colours come again after seven. */
export function isDashed(number) {
  return Math.floor((number - 1) / PERSON_COLOURS.length) % 2 === 1;
}

/** Level -> its key in RESULT; the levels' colours are classes of page.css. */
export const LEVEL_KEYS = { head: "head", body: "body", context: "ctx" };
export const LEVELS = Object.keys(LEVEL_KEYS);
