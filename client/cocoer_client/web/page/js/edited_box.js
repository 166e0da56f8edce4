/** One box that can be moved and resized. */

import { colourOf } from "./colours.js";
import { h, place } from "./dom.js";
import { fractions, moved, resized } from "./geometry.js";

const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 0.01;
/** Of the image's longer side, for each press of a key; with Alt one pixel. */

export class EditedBox {
  /** @param part `body` or `head` of the editor's person `number`, which counts from 0. */
  constructor(editor, number, part) {
    Object.assign(this, { editor, number, part });
    this.element = h(
      "button",
      {
        type: "button",
        class: `edited ${part}-box`,
        "data-box": `${number}-${part}`,
        "aria-describedby": "edit-help",
        style: { "--person": colourOf(number + 1) },
        onkeydown: (event) => this.#press(event),
        onpointerdown: (event) => this.#drag(event),
        onfocus: () => editor.touch(number),
      },
      part === "body" && h("span", { class: "badge", text: number + 1, "aria-hidden": "true" }),
      HANDLES.map((handle) => h("span", { class: `handle ${handle}`, "data-handle": handle, "aria-hidden": "true" })),
    );
    this.#show();
  }

  get box() {
    return this.editor.persons[this.number][this.part];
  }

  #show() {
    const [x1, y1, x2, y2] = this.box;
    place(this.element, fractions(this.box, ...this.editor.size));
    const name = this.part === "body" ? "Body" : "Head";
    this.element.setAttribute("aria-label", `${name} of person ${this.number + 1}, ${x2 - x1} by ${y2 - y1} pixels at ${x1}, ${y1}`);
  }

  #change(box) {
    this.editor.change(this.number, this.part, box);
    this.#show();
    // The head goes along with its body.
    if (this.part === "body" && this.editor.persons[this.number].head) {
      const head = this.editor.layer.querySelector(`[data-box="${this.number}-head"]`);
      place(head, fractions(this.editor.persons[this.number].head, ...this.editor.size));
    }
  }

  get #frame() {
    return this.part === "head" ? this.editor.persons[this.number].body : this.editor.frame;
  }

  #press(event) {
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.editor.remove(this.number, this.part);
      return;
    }
    const arrow = ARROWS[event.key];
    if (!arrow || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const step = event.altKey ? 1 : Math.max(1, Math.round(STEP * Math.max(...this.editor.size)));
    const [dx, dy] = arrow.map((one) => one * step);
    this.#change(event.shiftKey ? resized(this.box, "se", dx, dy, this.#frame) : moved(this.box, dx, dy, this.#frame));
  }

  #drag(event) {
    if (event.button !== 0 || this.editor.layer.classList.contains("drawing")) return;
    event.preventDefault();
    this.element.focus();
    const { handle } = event.target.dataset;
    const [start, box, frame] = [this.editor.pointOf(event), [...this.box], this.#frame];
    this.element.setPointerCapture(event.pointerId);
    const move = (now) => {
      const [x, y] = this.editor.pointOf(now);
      const [dx, dy] = [x - start[0], y - start[1]];
      this.#change(handle ? resized(box, handle, dx, dy, frame) : moved(box, dx, dy, frame));
    };
    this.element.addEventListener("pointermove", move);
    for (const type of ["pointerup", "pointercancel"]) {
      this.element.addEventListener(type, () => this.element.removeEventListener("pointermove", move), { once: true });
    }
  }
}
