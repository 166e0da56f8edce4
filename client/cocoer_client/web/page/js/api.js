/** The gateway's REST interface. Addresses are relative to the page, which may lie below a path of a proxy. */

const KEY = "cocoer-key";
/** What may pass, and is worth asking again without a change. */
export const MAY_PASS = ["caller", "busy", "unavailable", "timeout", "offline"];

/** A refusal: problem details (RFC 9457), or no answer at all. */
export class Problem extends Error {
  constructor({ status = 0, reason = "offline", title = "", detail = "", requestId = "" }) {
    super(detail || title);
    Object.assign(this, { status, reason, title, requestId });
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  clear: () => sessionStorage.removeItem(KEY),
};

/** The full address of a path of the gateway. */
export const addressOf = (path) => new URL(path, document.baseURI).href;

async function send(path, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "No answer", detail: "The gateway does not answer: it has ended, or the network is down." });
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Problem({
    status: answer.status,
    reason: said.reason ?? "internal",
    title: said.title ?? `Status ${answer.status}`,
    detail: said.detail ?? "The gateway gave no reason.",
    requestId: answer.headers.get("X-Request-Id") ?? "",
  });
}

/** What serves here: `{model, labels, thresholds, limits, warnings}`. */
export async function about(signal) {
  return (await send("v1/model", { signal })).json();
}

/**
 * Send an image.
 * @param path `recognise`, `annotate` or `explain`.
 * @param image `{blob, name}`.
 * @param parameters name -> value; `persons` as an array.
 */
export function post(path, image, parameters, { signal, accept } = {}) {
  const form = new FormData();
  for (const [name, value] of Object.entries(parameters)) {
    form.append(name, typeof value === "object" ? JSON.stringify(value) : String(value));
  }
  form.append("image", image.blob, image.name);
  return send(`v1/${path}`, { method: "POST", body: form, signal, headers: accept ? { Accept: accept } : {} });
}
