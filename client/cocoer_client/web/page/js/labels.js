/** Labels from probabilities: what RESULT's lists are at other thresholds. Pure; knows nothing of the page. */

import { LEVEL_KEYS, LEVELS } from "./colours.js";

/** A label whose V-I probability is above this is in the pseudo-label. */
export const PSEUDO_THRESHOLD = 0.3;
const DECIDED_BY = { pred: "final", VI: "level", head: "level", body: "level", ctx: "level" };

/** The labels whose probability is above the threshold, in the labels' order: as the server decides. */
export function labelsAbove(labels, probabilities, threshold) {
  return labels.filter((_, number) => probabilities[number] > threshold);
}

/**
 * A RESULT with each person's labels at other thresholds; the given one stays as it is.
 * @param thresholds `{final, level}`; a missing one leaves its lists as they are.
 */
export function withThresholds(result, thresholds) {
  const persons = result.persons.map((person) => {
    const decided = {};
    for (const [key, name] of Object.entries(DECIDED_BY)) {
      if (thresholds[name] !== undefined) {
        decided[key] = labelsAbove(result.labels, person.scores[key], thresholds[name]);
      }
    }
    return { ...person, ...decided };
  });
  return { ...result, persons };
}

/** `[{label, probability}]` of a list of labels, the most probable first. */
export function ranked(result, person, key) {
  const at = (label) => person.scores[key][result.labels.indexOf(label)];
  return person[key].map((label) => ({ label, probability: at(label) })).sort((a, b) => b.probability - a.probability);
}

/** The labels of the pseudo-label. */
export function pseudoLabels(result, person) {
  return labelsAbove(result.labels, person.scores.VI, PSEUDO_THRESHOLD);
}

/** The levels in the order in which they are excluded. */
export function exclusionOrder(person) {
  return person.emo_process.map((name) => name.replace(/-level$/, ""));
}

const ORDERS = {
  final: (a, b) => b.final - a.final,
  change: (a, b) => b.change - a.change,
  vi: (a, b) => b.vi - a.vi,
  name: (a, b) => a.label.localeCompare(b.label, "en"),
};

/**
 * What coordination did to each label.
 * @param order of the rows: `final`, `change` (the largest of a level), `vi` or `name`.
 */
export function coordinationRows(result, person, order) {
  const rows = result.labels.map((label, number) => {
    const changes = LEVELS.map((level) => ({
      level,
      before: person.scores[LEVEL_KEYS[level]][number],
      after: person.refined[LEVEL_KEYS[level]][number],
    }));
    const vi = person.scores.VI[number];
    return {
      label,
      vi,
      isPseudo: vi > PSEUDO_THRESHOLD,
      changes,
      change: Math.max(...changes.map(({ before, after }) => Math.abs(after - before))),
      final: person.scores.pred[number],
      isChosen: person.pred.includes(label),
    };
  });
  return rows.sort(ORDERS[order]);
}

/** What must not be overlooked about how a result was made; the sentences of `cocoer_client.reading.warnings_of`. */
export function warningsOf(result, boxesGiven) {
  const { synthetic, detector } = result.model;
  const warnings = [];
  if (synthetic) warnings.push("SYNTHETIC WEIGHTS: random numbers, these are not predictions");
  if (result.image.damage) warnings.push(`DAMAGED IMAGE: ${result.image.damage}`);
  if (boxesGiven) return warnings;
  if (detector.startsWith("opencv")) warnings.push("FALLBACK DETECTOR: OpenCV face cascade, body boxes are guesses");
  else if (detector.includes("synthetic")) warnings.push("SYNTHETIC DETECTORS: boxes are random");
  return warnings;
}
