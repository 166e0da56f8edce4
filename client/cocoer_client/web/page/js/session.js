/** The state of the page and the requests that change it. Nothing here is kept beyond the page. */

import { about, key, post, Problem } from "./api.js";
import { withThresholds } from "./labels.js";

/**
 * Says `change` after every change, with what changed as `detail`: `model`, `image`, `busy`, `result`, `thresholds`,
 * `selected`, `problem`, `boxes`, `history`.
 */
export class Session extends EventTarget {
  about = null;
  /** `{blob, name, url, element}`: the image that is shown. */
  image = null;
  /** RESULT as the server sent it; `result` has the labels at the page's thresholds. */
  answer = null;
  /** Boxes that were given with the last request, or null. */
  given = null;
  minScore = null;
  /** Whether what there is of a damaged image is used. */
  takesDamage = false;
  thresholds = {};
  /** The `id` of the person that is looked at, or null. */
  selected = null;
  problem = null;
  retry = null;
  history = [];
  #running = null;

  get isBusy() {
    return this.#running !== null;
  }

  get result() {
    return this.answer && withThresholds(this.answer, this.thresholds);
  }

  /** Parameters that differ from the server's defaults: what a request needs for the same answer. */
  get parameters() {
    const usual = this.about?.thresholds ?? {};
    const parameters = {};
    const { final, level } = this.thresholds;
    if (final !== usual.final_threshold) parameters.final_threshold = final;
    if (level !== usual.level_threshold) parameters.level_threshold = level;
    if (this.takesDamage) parameters.on_damage = "accept";
    if (this.given) parameters.persons = this.given;
    else if (this.minScore !== usual.min_score) parameters.min_score = this.minScore;
    return parameters;
  }

  tell(detail) {
    this.dispatchEvent(new CustomEvent("change", { detail }));
  }

  /** Ask what serves here; needed before all else. */
  async start() {
    await this.#run(async (signal) => {
      this.about = await about(signal);
      this.resetThresholds();
      this.minScore = this.about.thresholds.min_score;
      this.tell("model");
    }, () => this.start());
  }

  resetThresholds() {
    const { final_threshold: final, level_threshold: level } = this.about.thresholds;
    this.thresholds = { final, level };
    this.tell("thresholds");
  }

  setThreshold(name, value) {
    this.thresholds = { ...this.thresholds, [name]: value };
    this.tell("thresholds");
  }

  select(id) {
    if (id === this.selected) return;
    this.selected = id;
    this.tell("selected");
  }

  /** Show another image and ask about it. */
  async show(image) {
    this.cancel();
    Object.assign(this, { image, answer: null, given: null, selected: null, takesDamage: false });
    this.tell("image");
    await this.ask(null);
  }

  /** Ask about the image that is shown. `persons`: boxes, or null: have the server look for persons. */
  async ask(persons) {
    const { image } = this;
    await this.#run(async (signal) => {
      // The scores are all that is needed: labels follow from them here, whatever the thresholds.
      const parameters = persons ? { persons } : { min_score: this.minScore };
      if (this.takesDamage) parameters.on_damage = "accept";
      const answer = await (await post("recognise", image, parameters, { signal })).json();
      Object.assign(this, { answer, given: persons, selected: answer.persons[0]?.id ?? null });
      this.#remember();
      this.tell("result");
    }, () => this.ask(persons));
  }

  /** A download of what is shown: the response's blob, or null if it failed. */
  async fetched(path, accept) {
    let blob = null;
    await this.#run(async (signal) => {
      blob = await (await post(path, this.image, this.parameters, { signal, accept })).blob();
    }, null);
    return blob;
  }

  cancel() {
    this.#running?.abort();
  }

  /** Say that something went wrong before anything was sent. */
  refuse(title, detail) {
    this.cancel();
    Object.assign(this, { problem: new Problem({ reason: "page", title, detail }), retry: null });
    this.tell("problem");
  }

  recall(entry) {
    this.cancel();
    Object.assign(this, entry, { selected: entry.answer.persons[0]?.id ?? null, problem: null });
    this.tell("problem");
    this.tell("image");
    this.tell("result");
  }

  #remember() {
    const { image, answer, given, takesDamage } = this;
    this.history = [{ image, answer, given, takesDamage }, ...this.history.filter((entry) => entry.image !== image)];
    for (const dropped of this.history.splice(6)) URL.revokeObjectURL(dropped.image.url);
    this.tell("history");
  }

  async #run(task, retry) {
    this.cancel();
    const running = new AbortController();
    Object.assign(this, { problem: null, retry });
    this.#running = running;
    this.tell("problem");
    this.tell("busy");
    try {
      await task(running.signal);
    } catch (error) {
      if (error.name !== "AbortError" && this.#running === running) this.#failed(error);
    } finally {
      if (this.#running === running) {
        this.#running = null;
        this.tell("busy");
      }
    }
  }

  #failed(error) {
    if (!(error instanceof Problem)) throw error;
    if (error.reason === "key") key.clear();
    this.problem = error;
    this.tell("problem");
  }
}
