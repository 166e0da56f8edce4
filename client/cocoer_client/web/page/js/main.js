/** Puts the page together. Each module keeps its part of the page as the session is. */

import * as camera from "./camera.js";
import * as downloads from "./downloads.js";
import { Editor } from "./editor.js";
import * as images from "./images.js";
import * as method from "./method.js";
import * as notices from "./notices.js";
import * as persons from "./persons.js";
import { Session } from "./session.js";
import * as stage from "./stage.js";
import * as thresholds from "./thresholds.js";

const session = new Session();
for (const part of [notices, stage, persons, thresholds, method, downloads, images, camera]) part.listen(session);
new Editor(session);
session.start();
