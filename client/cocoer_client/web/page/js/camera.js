/** A photo from the camera. It is on only while its dialog is open. */

import { $ } from "./dom.js";
import { take } from "./images.js";

const WHY = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it in the address bar, and try again.",
  NotFoundError: "This device has no camera.",
  NotReadableError: "The camera is in use by another program.",
};

export function listen(session) {
  const [dialog, video, shoot] = [$("camera"), $("camera-video"), $("camera-shoot")];
  let stream = null;
  const stop = () => {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = video.srcObject = null;
    shoot.disabled = true;
  };

  const open = async () => {
    if (!navigator.mediaDevices) {
      // Browsers offer it to pages of https and of this machine alone.
      session.refuse("No camera", "Browsers allow the camera only over https, or on localhost.");
      return;
    }
    dialog.showModal();
    try {
      const got = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } }, audio: false });
      stream = got;
      if (!dialog.open) return stop();
      video.srcObject = got;
      await video.play();
      shoot.disabled = false;
      shoot.focus();
    } catch (error) {
      if (!dialog.open) return;
      dialog.close();
      session.refuse("No photo", WHY[error.name] ?? `The camera can't be used: ${error.message}`);
    }
  };

  for (const id of ["photograph", "photograph-first"]) $(id).addEventListener("click", open);
  dialog.addEventListener("close", stop);
  $("camera-close").addEventListener("click", () => dialog.close());
  shoot.addEventListener("click", async () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    dialog.close();
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
    await take(session, blob, "photo.jpg");
  });
}
