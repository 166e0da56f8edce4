/** The image with a numbered box around each person and face. */

import { colourOf, isDashed } from "./colours.js";
import { $, h, place } from "./dom.js";
import { area, fractions } from "./geometry.js";
import { ranked } from "./labels.js";

/** Keep the stage as the session is. Returns nothing; draws into `#figures`. */
export function listen(session) {
  const [photo, figures] = [$("photo"), $("figures")];
  session.addEventListener("change", ({ detail }) => {
    if (detail === "image") showImage(session, photo);
    if (["image", "result", "thresholds", "boxes"].includes(detail)) draw(session, figures);
    if (detail === "selected" || detail === "result") mark(session);
  });
}

function showImage({ image }, photo) {
  document.body.classList.add("has-image");
  $("stage").hidden = false;
  $("unshown").hidden = image.element !== null;
  photo.hidden = image.element === null;
  if (image.element) photo.src = image.url;
  photo.alt = `The image ${image.name}`;
  $("image-name").textContent = image.name;
  $("image-size").textContent = image.element ? `${image.element.naturalWidth} × ${image.element.naturalHeight}` : "";
}

function draw(session, figures) {
  figures.replaceChildren();
  const { result } = session;
  if (!result) return;
  const { width, height } = result.image;
  // Smaller ones above larger ones, so that each can be reached.
  for (const person of result.persons.toSorted((a, b) => area(b.body_box) - area(a.body_box))) {
    figures.append(figure(session, result, person, width, height));
  }
}

function figure(session, result, person, width, height) {
  const labels = ranked(result, person, "pred").map(({ label }) => label).join(", ") || "no label";
  const body = h("button", {
    type: "button",
    class: "figure-body",
    "aria-label": `Person ${person.id}: ${labels}`,
    onpointerenter: () => peek(person.id),
    onpointerleave: () => peek(null),
    onfocus: () => session.select(person.id),
    onclick: () => session.select(person.id),
  });
  const head = h("span", { class: "figure-head" });
  const badge = h("span", { class: "badge", text: person.id });
  place(body, fractions(person.body_box, width, height));
  const where = fractions(person.head_box, width, height);
  place(head, where);
  badge.style.setProperty("left", `${100 * where.left}%`);
  badge.style.setProperty("top", `max(1.7rem, ${100 * where.top}%)`);
  return h(
    "div",
    { class: `figure${isDashed(person.id) ? " dashed" : ""}`, "data-person": person.id, style: { "--person": colourOf(person.id) } },
    body,
    head,
    badge,
  );
}

/** Show one person as long as the pointer is on it: the others fade. */
export function peek(id) {
  document.body.classList.toggle("peeking", id !== null);
  for (const element of document.querySelectorAll("[data-person]")) {
    element.classList.toggle("peeked", Number(element.dataset.person) === id);
  }
}

function mark(session) {
  for (const element of document.querySelectorAll("#figures [data-person]")) {
    element.classList.toggle("selected", Number(element.dataset.person) === session.selected);
  }
}
