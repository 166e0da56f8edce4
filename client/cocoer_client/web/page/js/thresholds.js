/** The sliders: two act at once on the scores that are there, the detectors' asks again. */

import { $ } from "./dom.js";

export function listen(session) {
  const sliders = { final: $("final-threshold"), level: $("level-threshold") };
  const minScore = $("min-score");
  for (const [name, slider] of Object.entries(sliders)) {
    slider.addEventListener("input", () => session.setThreshold(name, Number(slider.value)));
  }
  minScore.addEventListener("input", () => show(minScore));
  minScore.addEventListener("change", () => {
    session.minScore = Number(minScore.value);
    session.ask(null);
  });
  $("reset").addEventListener("click", () => {
    const usual = session.about.thresholds.min_score;
    session.resetThresholds();
    if (session.minScore === usual) return;
    session.minScore = usual;
    if (!session.given) session.ask(null);
  });
  session.addEventListener("change", ({ detail }) => {
    if (!["model", "thresholds", "result", "busy"].includes(detail) || !session.about) return;
    for (const [name, slider] of Object.entries(sliders)) set(slider, session.thresholds[name]);
    if (document.activeElement !== minScore || !session.isBusy) set(minScore, session.minScore);
    $("min-score-note").textContent = session.given ? "Not used: the boxes were given." : "Asks again.";
    $("reset").disabled = isUsual(session);
  });
}

function isUsual({ about, thresholds, minScore }) {
  const { final_threshold: final, level_threshold: level, min_score: score } = about.thresholds;
  return thresholds.final === final && thresholds.level === level && minScore === score;
}

function set(slider, value) {
  slider.value = value;
  show(slider);
}

function show(slider) {
  $(`${slider.id}-value`).textContent = Number(slider.value).toFixed(2);
}
