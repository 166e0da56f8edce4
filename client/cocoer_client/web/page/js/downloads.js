/** What can be taken along: files, and the request as code. */

import { addressOf, key } from "./api.js";
import { $, save } from "./dom.js";
import { curlLine, pythonClient, pythonRequests } from "./snippets.js";

const KINDS = { curl: curlLine, client: pythonClient, requests: pythonRequests };

export function listen(session) {
  const stem = () => session.image.name.replace(/\.[^.]*$/, "") || "image";
  $("download-json").addEventListener("click", () => {
    save(new Blob([`${JSON.stringify(session.result, null, 2)}\n`], { type: "application/json" }), `${stem()}.json`);
  });
  $("download-image").addEventListener("click", async () => {
    const blob = await session.fetched("annotate", "image/png");
    if (blob) save(blob, `${stem()}.annotated.png`);
  });
  $("download-page").addEventListener("click", async () => {
    const blob = await session.fetched("explain", "text/html");
    if (blob) save(blob, `${stem()}.explained.html`);
  });
  for (const radio of document.getElementsByName("code")) radio.addEventListener("change", () => drawCode(session));
  $("copy").addEventListener("click", copy);
  session.addEventListener("change", ({ detail }) => {
    if (["image", "result", "thresholds"].includes(detail)) {
      $("take").hidden = !session.answer;
      drawCode(session);
    }
  });
}

function drawCode(session) {
  if (!session.answer) return;
  const { value } = document.querySelector('[name="code"]:checked');
  const asked = {
    url: addressOf("v1/recognise"),
    file: session.image.name,
    parameters: session.parameters,
    needsKey: key.get() !== null,
  };
  $("code").textContent = KINDS[value](asked);
  $("copied").textContent = "";
}

async function copy() {
  const text = $("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
    $("copied").textContent = "Copied.";
  } catch {
    // Not over http: have it selected, so that the keys for copying do it.
    getSelection().selectAllChildren($("code"));
    $("copied").textContent = "Selected: copy it with the keyboard.";
  }
}
