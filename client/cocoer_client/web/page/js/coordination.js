/** The table of what coordination did: a row for each label, each level before and after. */

import { LEVELS } from "./colours.js";
import { h, percent, svg } from "./dom.js";
import { coordinationRows } from "./labels.js";

/**
 * @param order see `coordinationRows`.
 * @param thresholds `{final, level}`: marks on the axes.
 */
export function coordinationTable(result, person, order, thresholds) {
  const rows = coordinationRows(result, person, order);
  return h(
    "table",
    {},
    h("caption", { class: "visually-hidden", text: `Probabilities of each label of person ${person.id}` }),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col", text: "label" }),
        h("th", { scope: "col", class: "vi", text: "V-I" }),
        LEVELS.map((level) => h("th", { scope: "col", class: level }, level, scale(thresholds.level))),
        h("th", { scope: "col", class: "final" }, "final", scale(thresholds.final)),
        h("td", {}),
      ),
    ),
    h("tbody", {}, rows.map((row) => tableRow(row, thresholds))),
  );
}

function scale(threshold) {
  return h(
    "span",
    { class: "scale", "aria-hidden": "true" },
    h("span", { class: "scale-start", text: "0" }),
    h("span", { class: "scale-mark", text: threshold.toFixed(2), style: { left: percent(threshold) } }),
    h("span", { class: "scale-end", text: "1" }),
  );
}

function tableRow(row, thresholds) {
  return h(
    "tr",
    { class: row.isChosen ? "chosen" : null, "data-label": row.label },
    h("th", { scope: "row", text: row.label }),
    h("td", { class: "vi number", text: `${row.vi.toFixed(2)}${row.isPseudo ? " *" : ""}` }),
    row.changes.map((change) => h("td", { class: `plot ${change.level}` }, dumbbell(change, thresholds.level))),
    h(
      "td",
      { class: "plot final" },
      h(
        "span",
        { class: "track", "aria-hidden": "true" },
        h("i", { class: "fill", style: { width: percent(row.final) } }),
        h("i", { class: "mark", style: { left: percent(thresholds.final) } }),
      ),
    ),
    h("td", { class: "number", text: row.final.toFixed(2) }),
  );
}

/** Hollow: the probability before; full: after. */
function dumbbell({ level, before, after }, threshold) {
  const said = `${level}: ${before.toFixed(2)} to ${after.toFixed(2)}`;
  const line = (kind, from, to, y1 = 9, y2 = 9) => svg("line", { class: kind, x1: 100 * from, x2: 100 * to, y1, y2 });
  return svg(
    "svg",
    { viewBox: "0 0 100 18", preserveAspectRatio: "none", role: "img", "aria-label": said },
    svg("title", {}, said),
    line("axis", 0, 1),
    line("threshold", threshold, threshold, 3, 15),
    line("step", before, after),
    line("dot", before, before),
    line("hole", before, before),
    line("dot", after, after),
  );
}
