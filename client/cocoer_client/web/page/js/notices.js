/** What the page says of itself: warnings, progress, problems, the key that is asked for. */

import { key, MAY_PASS } from "./api.js";
import { $, h } from "./dom.js";
import { sizeText } from "./images.js";
import { warningsOf } from "./labels.js";

export function listen(session) {
  session.addEventListener("change", ({ detail }) => {
    if (detail === "model") showModel(session);
    if (["model", "image", "result"].includes(detail)) showWarnings(session);
    if (["busy", "result", "thresholds"].includes(detail)) showProgress(session, detail);
    if (detail === "problem") showProblem(session);
    if (detail === "history") showHistory(session);
  });
  $("cancel").addEventListener("click", () => session.cancel());
  $("retry").addEventListener("click", () => {
    if (session.problem.reason === "damaged") session.takesDamage = true;
    session.retry?.();
  });
  $("dismiss").addEventListener("click", () => ($("problem").hidden = true));
  listenForKey(session);
}

function showModel({ about: { model, limits } }) {
  const formats = limits.formats.map((type) => type.replace("image/", "").toUpperCase()).join(", ");
  $("limits").textContent = `${formats}; up to ${sizeText(limits.max_bytes)}`;
  $("model").replaceChildren(
    ...Object.entries(model).flatMap(([name, value]) => [h("dt", { text: name.replaceAll("_", " ") }), h("dd", { text: String(value) })]),
  );
  for (const button of document.querySelectorAll("[data-needs-model]")) button.disabled = false;
}

function showWarnings({ about, answer, given }) {
  const warnings = answer ? warningsOf(answer, given !== null) : about.warnings;
  $("warnings").replaceChildren(...warnings.map((text) => h("p", { class: "warning", role: "alert", text })));
}

function showProgress(session, detail) {
  const { isBusy, answer, problem } = session;
  document.body.classList.toggle("busy", isBusy);
  $("progress").hidden = !isBusy;
  $("stage").setAttribute("aria-busy", String(isBusy));
  let text = $("status").textContent;
  if (isBusy) text = session.image ? "Asking the server …" : "Connecting …";
  else if (problem) text = "";
  else if (answer && detail === "busy") text = said(answer.persons.length);
  else if (!answer) text = session.image ? "Cancelled." : "";
  $("status").textContent = text;
}

const said = (count) => (count === 1 ? "1 person found." : `${count || "No"} persons found.`);

function showProblem({ problem, retry }) {
  $("problem").hidden = problem === null;
  if (problem === null) return;
  $("problem-title").textContent = problem.title;
  $("problem-detail").textContent = problem.message;
  $("problem-id").textContent = problem.requestId ? `Request ${problem.requestId}` : "";
  $("retry").hidden = retry === null;
  $("retry").textContent = retryText(problem.reason);
  if (problem.reason === "key" && !$("key").open) $("key").showModal();
}

function retryText(reason) {
  if (reason === "damaged") return "Use what there is of it";
  return MAY_PASS.includes(reason) ? "Retry" : "Try again";
}

function listenForKey(session) {
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const value = $("key-value").value.trim();
    if (!value) return;
    key.set(value);
    $("key-value").value = "";
    $("key").close();
    session.retry?.();
  });
}

function showHistory(session) {
  const { history } = session;
  $("history").hidden = history.length < 2;
  $("history-list").replaceChildren(
    ...history.map((entry) =>
      h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: "thumb", "aria-label": `Show ${entry.image.name} again`, onclick: () => session.recall(entry) },
          h("img", { src: entry.image.url, alt: "" }),
        ),
      ),
    ),
  );
}
