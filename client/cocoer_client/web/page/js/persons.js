/** The persons beside the image: each with its labels as bars. */

import { colourOf } from "./colours.js";
import { $, h, percent } from "./dom.js";
import { ranked } from "./labels.js";
import { peek } from "./stage.js";

export function listen(session) {
  session.addEventListener("change", ({ detail }) => {
    if (["image", "result", "thresholds"].includes(detail)) draw(session);
    if (detail === "selected") mark(session);
  });
}

function draw(session) {
  const { result } = session;
  $("results").hidden = !result;
  if (!result) return;
  const count = result.persons.length;
  $("persons-title").textContent = count === 1 ? "1 person" : `${count || "No"} persons`;
  $("left-out").textContent = leftOut(session);
  $("nobody").hidden = count > 0;
  $("persons").replaceChildren(...result.persons.map((person) => card(session, result, person)));
  mark(session);
}

/** A body that is given without a head is left out where no face is found in it. */
function leftOut({ given, answer }) {
  const missing = given ? given.length - answer.persons.length : 0;
  if (missing <= 0) return "";
  return `${missing} of ${given.length} left out: no face was found in the body. Draw the head yourself.`;
}

function card(session, result, person) {
  const labels = ranked(result, person, "pred");
  const select = () => session.select(person.id);
  return h(
    "li",
    {
      class: "person",
      "data-person": person.id,
      style: { "--person": colourOf(person.id) },
      onpointerenter: () => peek(person.id),
      onpointerleave: () => peek(null),
    },
    h(
      "button",
      { type: "button", class: "person-title", onclick: select, onfocus: () => peek(person.id), onblur: () => peek(null) },
      h("span", { class: "badge", text: person.id, "aria-hidden": "true" }),
      h("span", { class: "visually-hidden", text: `Person ${person.id}: ` }),
      h("span", { class: "person-label", text: labels[0]?.label ?? "no label" }),
      labels.length > 3 && h("span", { class: "muted small more", text: `${labels.length} labels` }),
    ),
    h("ul", { class: "bars", "aria-label": `Labels of person ${person.id}` }, labels.map((one) => bar(one, session.thresholds.final))),
  );
}

function bar({ label, probability }, threshold) {
  return h(
    "li",
    { class: "bar", "data-label": label },
    h("span", { class: "bar-name", text: label }),
    h(
      "span",
      { class: "track", "aria-hidden": "true" },
      h("i", { class: "fill", style: { width: percent(probability) } }),
      h("i", { class: "mark", style: { left: percent(threshold) } }),
    ),
    h("span", { class: "bar-value", text: probability.toFixed(2) }),
  );
}

function mark(session) {
  for (const element of document.querySelectorAll("#persons [data-person]")) {
    const isSelected = Number(element.dataset.person) === session.selected;
    element.classList.toggle("selected", isSelected);
    element.querySelector("button").setAttribute("aria-pressed", String(isSelected));
  }
}
