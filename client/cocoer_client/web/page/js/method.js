/** What the method did for one person: crops, competition, coordination. The explain page's figures, to look around in. */

import { colourOf, LEVEL_KEYS, LEVELS } from "./colours.js";
import { drawCrop } from "./crops.js";
import { $, h, percent } from "./dom.js";
import { exclusionOrder, labelsAbove, pseudoLabels } from "./labels.js";
import { coordinationTable } from "./coordination.js";

export function listen(session) {
  const order = $("order");
  order.addEventListener("change", () => drawTable(session));
  session.addEventListener("change", ({ detail }) => {
    if (["image", "result", "thresholds", "selected"].includes(detail)) draw(session, detail);
  });
  listenForLabels();
}

/** A label that is pointed at or focused is highlighted wherever it is. */
function listenForLabels() {
  const at = (event) => event.target.closest?.("[data-label]")?.dataset.label ?? null;
  const show = (label) => {
    for (const element of document.querySelectorAll("[data-label]")) {
      element.classList.toggle("same-label", label !== null && element.dataset.label === label);
    }
  };
  document.addEventListener("pointerover", (event) => show(at(event)));
  document.addEventListener("focusin", (event) => show(at(event)));
  document.addEventListener("focusout", () => show(null));
}

function chosen({ result, selected }) {
  return result?.persons.find(({ id }) => id === selected) ?? null;
}

function draw(session, detail) {
  const person = chosen(session);
  $("method").hidden = person === null;
  if (person === null) return;
  drawTabs(session);
  if (detail !== "thresholds") drawCrops(session, person);
  drawLabels(session, person);
  drawCompetition(session.result, person);
  drawTable(session);
  drawWeights(person);
}

function drawTabs(session) {
  const { persons } = session.result;
  $("method-persons").replaceChildren(
    ...persons.map(({ id }) =>
      h(
        "button",
        { type: "button", class: "tab", "aria-pressed": String(id === session.selected), onclick: () => choose(session, id), style: { "--person": colourOf(id) } },
        h("span", { class: "visually-hidden", text: "Person " }),
        h("span", { class: "badge", text: id }),
      ),
    ),
  );
}

/** The buttons are made anew when the person changes: the focus goes to the one that took the place. */
function choose(session, id) {
  session.select(id);
  $("method-persons").querySelector('[aria-pressed="true"]')?.focus();
}

function drawCrops({ image, result }, person) {
  const { width, height } = result.image;
  const boxes = { head: person.head_box, body: person.body_box, context: [0, 0, width, height] };
  for (const level of LEVELS) drawCrop($(`crop-${level}`), image.element, boxes[level], result.image);
}

function drawLabels({ result, thresholds }, person) {
  for (const level of LEVELS) {
    const before = person[LEVEL_KEYS[level]];
    const after = labelsAbove(result.labels, person.refined[LEVEL_KEYS[level]], thresholds.level);
    $(`before-${level}`).replaceChildren(...labelsOf(before));
    $(`after-${level}`).replaceChildren(...labelsOf(after, before));
  }
}

/** Labels as words that can be pointed at; those that were not there before are marked. */
function labelsOf(labels, before = labels) {
  if (!labels.length) return [h("span", { class: "muted", text: "no label" })];
  return labels.map((label) =>
    h("span", { class: `label${before.includes(label) ? "" : " new"}`, "data-label": label }, label, !before.includes(label) && h("span", { class: "visually-hidden", text: " (new)" })),
  );
}

function drawCompetition(result, person) {
  $("pseudo").replaceChildren(...labelsOf(pseudoLabels(result, person)));
  const order = exclusionOrder(person);
  const words = ["excluded first", "excluded next", "stays to the end"];
  $("exclusion").replaceChildren(
    ...order.map((level, place) =>
      h("li", {}, h(place ? "span" : "s", { class: `chip ${level} ${["first", "next", "last"][place]}`, text: level }), h("span", { class: "muted", text: words[place] })),
    ),
  );
  const most = Math.max(...Object.values(person.losses), 1e-9);
  $("losses").replaceChildren(
    ...order.map((level) =>
      h(
        "li",
        { class: "bar" },
        h("b", { class: `bar-name ${level}`, text: level }),
        h("span", { class: "track", "aria-hidden": "true" }, h("i", { class: `fill ${level}`, style: { width: percent(person.losses[level] / most) } })),
        h("span", { class: "bar-value", text: person.losses[level].toPrecision(3) }),
      ),
    ),
  );
}

function drawTable(session) {
  const person = chosen(session);
  if (person) $("coordination").replaceChildren(coordinationTable(session.result, person, $("order").value, session.thresholds));
}

const WEIGHTS = {
  lambda_w1: "weights, all",
  lambda_b1: "biases, all",
  lambda_w2: "weights, remaining",
  lambda_b2: "biases, remaining",
};

function drawWeights({ coordination }) {
  $("distance").textContent = coordination.grad_distance.toFixed(3);
  $("weights").replaceChildren(
    ...Object.entries(WEIGHTS).map(([key, name]) => {
      const parts = Object.entries(coordination[key]);
      return h(
        "li",
        { class: "bar weights" },
        h("span", { class: "bar-name", text: name }),
        h("span", { class: "track", "aria-hidden": "true" }, parts.map(([level, part]) => h("i", { class: `part ${level}`, style: { width: percent(part) } }))),
        h("span", { class: "bar-value" }, parts.map(([level, part]) => h("span", { class: level, text: `${level} ${part.toFixed(2)} ` }))),
      );
    }),
  );
}
