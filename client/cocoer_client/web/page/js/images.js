/** Images on their way in: dropped, pasted, chosen, photographed, or examples. */

import { $ } from "./dom.js";

/** What file choosers are asked for; phones convert HEIC to one of these. */
const READ = /^image\/(jpeg|png|webp|bmp|x-ms-bmp)$/;
const MIB = 1 << 20;

/** A size in bytes as people say it. */
export function sizeText(bytes) {
  return bytes < MIB ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / MIB).toFixed(bytes % MIB ? 1 : 0)} MiB`;
}

/** Take an image: refuse what would be refused, show what is left. */
export async function take(session, blob, name) {
  if (!session.about) return;
  const most = session.about.limits.max_bytes;
  if (blob.size > most) {
    session.refuse("The image is too large", `${name} has ${sizeText(blob.size)}; at most ${sizeText(most)} are taken. Make it smaller.`);
    return;
  }
  if (blob.type && !blob.type.startsWith("image/")) {
    session.refuse("Not an image", `${name} is ${blob.type}. Give a JPEG, PNG, WebP or BMP.`);
    return;
  }
  await session.show(await decoded(blob, name));
}

/** The image as an element, upright; of a format that the browser can't show, `element` is null. */
async function decoded(blob, name) {
  const url = URL.createObjectURL(blob);
  const element = new Image();
  element.src = url;
  try {
    await element.decode();
    return { blob, name, url, element };
  } catch {
    return { blob, name, url, element: null };
  }
}

const imageIn = (items) => [...items].find((file) => READ.test(file.type)) ?? [...items][0];

/** Listen for images that are dropped, pasted or chosen, and for examples that are clicked. */
export function listen(session) {
  const input = $("file");
  for (const id of ["choose", "choose-first"]) $(id).addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const [file] = input.files;
    if (file) take(session, file, file.name);
    input.value = "";
  });
  addEventListener("paste", (event) => {
    const file = imageIn(event.clipboardData.files);
    if (!file) return;
    event.preventDefault();
    take(session, file, file.name || "pasted.png");
  });
  listenForDrops(session);
  for (const button of document.querySelectorAll("[data-example]")) {
    button.addEventListener("click", () => example(session, button.dataset.example));
  }
}

function listenForDrops(session) {
  const { body } = document;
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) body.classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    body.classList.remove("dropping");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    const file = imageIn(event.dataTransfer.files);
    if (file) take(session, file, file.name);
  });
}

async function example(session, name) {
  try {
    const answer = await fetch(`page/examples/${name}`);
    if (answer.ok) await take(session, await answer.blob(), name);
    else session.refuse("The example is not there", `The gateway answered ${answer.status}.`);
  } catch {
    session.refuse("No answer", "The gateway does not answer: it has ended, or the network is down.");
  }
}
