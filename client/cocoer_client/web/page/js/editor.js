/** Boxes by hand: drawn, moved, resized and deleted, with pointer, touch and keyboard; then the server is asked again. */

import { EditedBox } from "./edited_box.js";
import { $, h, place } from "./dom.js";
import { boxOf, centredBody, fractions, headOf, within } from "./geometry.js";

const MIN_DRAWN = 6;
/** CSS pixels; less is a click. */

export class Editor {
  /** `{body, head}` of each person; `head` null: looked for. */
  persons = [];
  /** What is being drawn next: `body`, `head` or null. */
  #drawing = null;

  constructor(session) {
    this.session = session;
    this.layer = $("boxes");
    $("edit").addEventListener("click", () => this.open());
    $("edit-cancel").addEventListener("click", () => this.close());
    $("edit-ask").addEventListener("click", () => this.#ask());
    $("edit-detect").addEventListener("click", () => this.#detect());
    $("add-person").addEventListener("click", () => this.#add());
    $("add-head").addEventListener("click", () => this.#addHead());
    $("draw-person").addEventListener("click", () => this.#setDrawing(this.#drawing ? null : "body"));
    this.layer.addEventListener("pointerdown", (event) => this.#draw(event));
    session.addEventListener("change", ({ detail }) => {
      if (detail === "image" || detail === "result") this.close();
    });
  }

  get size() {
    const { image, answer } = this.session;
    if (answer) return [answer.image.width, answer.image.height];
    return [image.element.naturalWidth, image.element.naturalHeight];
  }

  get frame() {
    return [0, 0, ...this.size];
  }

  /** Edit the boxes that are there. */
  open() {
    const { answer } = this.session;
    this.persons = (answer?.persons ?? []).map(({ body_box: body, head_box: head }) => ({ body: [...body], head: [...head] }));
    this.current = this.persons.length - 1;
    document.body.classList.add("editing");
    this.layer.hidden = $("edit-bar").hidden = false;
    this.#setDrawing(this.persons.length ? null : "body");
    this.draw();
    $("draw-person").focus();
  }

  close() {
    if (!document.body.classList.contains("editing")) return;
    document.body.classList.remove("editing");
    this.layer.hidden = $("edit-bar").hidden = true;
  }

  /** All boxes anew. `focused`: `[number of the person, "body" or "head"]` that gets the focus. */
  draw(focused = null) {
    this.layer.replaceChildren();
    this.persons.forEach((person, number) => {
      for (const part of ["body", "head"]) if (person[part]) this.layer.append(new EditedBox(this, number, part).element);
    });
    const most = this.session.about.limits.max_persons;
    $("edit-ask").disabled = !this.persons.length;
    $("add-person").disabled = $("draw-person").disabled = this.persons.length >= most;
    this.touch(focused?.[0] ?? this.current);
    if (focused) this.layer.querySelector(`[data-box="${focused.join("-")}"]`)?.focus();
  }

  /** The person that a new head is for. */
  touch(number) {
    this.current = Math.min(Math.max(number, 0), this.persons.length - 1);
    $("add-head").disabled = !this.persons[this.current] || this.persons[this.current].head !== null;
  }

  /** Give a box of a person another place: a body takes its head along, a head stays in its body. */
  change(number, part, box) {
    const person = this.persons[number];
    if (part === "head") person.head = within(box, person.body);
    else {
      if (person.head) {
        const [dx, dy] = [box[0] - person.body[0], box[1] - person.body[1]];
        const isMoved = box[2] - person.body[2] === dx && box[3] - person.body[3] === dy;
        const [x1, y1, x2, y2] = person.head;
        person.head = within(isMoved ? [x1 + dx, y1 + dy, x2 + dx, y2 + dy] : person.head, box);
      }
      person.body = box;
    }
  }

  remove(number, part) {
    if (part === "head") this.persons[number].head = null;
    else this.persons.splice(number, 1);
    const next = Math.min(number, this.persons.length - 1);
    this.draw(next >= 0 ? [next, "body"] : null);
    if (next < 0) $("draw-person").focus();
    $("edit-said").textContent = part === "head" ? "Head removed: it is looked for." : "Person removed.";
  }

  /** The point of an event in pixels of the image. */
  pointOf(event) {
    const { left, top, width, height } = this.layer.getBoundingClientRect();
    const [across, down] = this.size;
    return [((event.clientX - left) / width) * across, ((event.clientY - top) / height) * down];
  }

  #add() {
    this.persons.push({ body: centredBody(...this.size), head: null });
    this.draw([this.persons.length - 1, "body"]);
  }

  #addHead() {
    const person = this.persons[this.current];
    person.head = headOf(person.body);
    this.draw([this.current, "head"]);
  }

  #setDrawing(part) {
    this.#drawing = part;
    $("draw-person").setAttribute("aria-pressed", String(part !== null));
    this.layer.classList.toggle("drawing", part !== null);
  }

  /** A new body from where the pointer goes down to where it comes up. */
  #draw(event) {
    const isFree = event.target === this.layer;
    if (event.button !== 0 || (!this.#drawing && !isFree) || this.persons.length >= this.session.about.limits.max_persons) return;
    event.preventDefault();
    event.stopPropagation();
    const [start, from] = [this.pointOf(event), [event.clientX, event.clientY]];
    const ghost = h("span", { class: "ghost" });
    this.layer.append(ghost);
    this.layer.setPointerCapture(event.pointerId);
    const box = (now) => boxOf(start, this.pointOf(now), this.frame);
    const move = (now) => place(ghost, fractions(box(now), ...this.size));
    const end = (now) => {
      this.layer.removeEventListener("pointermove", move);
      ghost.remove();
      const isDrawn = Math.min(Math.abs(now.clientX - from[0]), Math.abs(now.clientY - from[1])) >= MIN_DRAWN;
      if (now.type === "pointercancel" || !isDrawn) return;
      this.persons.push({ body: box(now), head: null });
      this.#setDrawing(null);
      this.draw([this.persons.length - 1, "body"]);
    };
    this.layer.addEventListener("pointermove", move);
    for (const type of ["pointerup", "pointercancel"]) this.layer.addEventListener(type, end, { once: true });
  }

  #ask() {
    // A head that is left out is looked for.
    this.session.ask(this.persons.map(({ body, head }) => (head ? { body, head } : { body })));
  }

  #detect() {
    this.close();
    this.session.ask(null);
  }
}
