"use strict";
// An image in, a label out. Class names and notes come from files that anybody may have made: they
// are only ever written as text, never as markup.

const find = (id) => document.getElementById(id);
const part = {};
for (const id of ["about", "verdict", "drop", "shown", "heat", "camera", "hint", "file", "photograph",
  "shoot", "stop", "why", "capture", "error", "models", "model", "as-is", "keep", "empty", "bars",
  "notes", "explained", "what", "unlike"]) part[id] = find(id);

const SHOWN = 5; // bars
const QUESTION = part.verdict.textContent;
const UNLIKE = "Images that look unlike all training images are answered with “none of these”: their " +
  "bars are grey, since the classes do not fit.";
const CANNOT_TELL = "Cannot tell whether it is similar to the training images: this classifier has no threshold.";
let models = []; // as the server describes them
let image = null; // the Blob that is being asked about
let address = ""; // of the preview
let running = null; // the request on its way
let stream = null; // of the camera

const show = (element, yes) => { element.hidden = !yes; };
const percent = (share) => (100 * share).toLocaleString("en", {
  minimumFractionDigits: 1, maximumFractionDigits: 1 }) + "%";
const element = (name, text = "", kind = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

// ---------------------------------------------------------------------------------- the server

class Refused extends Error {}

async function ask(path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server cannot be reached. Is it still running?");
  }
  let content = null;
  try {
    content = await reply.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (reply.ok && content) return content;
  const said = content && content.error;
  if (said && said.message) throw new Refused(`${said.message}. ${said.advice}`);
  throw new Refused(`The server answered with status ${reply.status}. Try again.`);
}

const chosen = () => models[part.model.selectedIndex] || models[0];

function address_of(explain) {
  const query = new URLSearchParams({ top: String(SHOWN) });
  if (part.keep.checked && !part["as-is"].hidden) query.set("as_is", "true");
  const verb = explain ? "explain-image" : "predict-image";
  return `v1/models/${encodeURIComponent(chosen().name)}:${verb}?${query}`;
}

async function start() {
  try {
    models = (await ask("v1/models")).models;
  } catch (error) {
    return complain(error);
  }
  part.model.replaceChildren(...models.map((model) => element("option", model.name)));
  show(part.models, models.length > 1);
  describe();
}

function describe() {
  const model = chosen();
  if (!model) return;
  const names = model.classes.slice(0, 12).join(", ");
  const more = model.classes.length > 12 ? ` and ${model.classes.length - 12} more` : "";
  part.about.textContent = `${model.name} · ${model.classes.length} classes: ${names}${more}`;
  const score = model.score;
  if (score) {
    const half = (100 * (score.high - score.low) / 2).toFixed(1);
    part.about.textContent += ` · accuracy ${percent(score.accuracy)} ± ${half} on ` +
      (score.split === "test" ? "test images" : "validation images (optimistic)");
  }
  part.unlike.textContent = model.rejects ? UNLIKE : "";
  show(part["as-is"], model.background);
}

// ---------------------------------------------------------------------------------- the image

function take(blob) {
  if (!blob || !models.length) return;
  stop_camera();
  image = blob;
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(blob);
  part.shown.src = address;
  part.shown.alt = "The image that was asked about";
  show(part.shown, true);
  show(part.hint, false);
  part.drop.classList.add("filled");
  classify(false);
}

part.shown.addEventListener("load", () => {
  part.drop.classList.toggle("small", part.shown.naturalWidth < 200);
});
part.shown.addEventListener("error", () => { // a format that this browser cannot show
  show(part.shown, false);
  part.hint.textContent = "No preview: this browser cannot show the image.";
  show(part.hint, true);
});

async function classify(explain) {
  if (running) running.abort();
  const mine = running = new AbortController();
  show(part.error, false);
  show_heat(null);
  document.body.classList.add("busy");
  part.why.disabled = true;
  const form = new FormData(); // with the file's name, so that an error can say it
  form.append("image", image, image.name || "image");
  try {
    const answer = await ask(address_of(explain), { method: "POST", body: form, signal: mine.signal });
    present(answer.predictions[0]);
  } catch (error) {
    if (error.name === "AbortError") return;
    clear();
    complain(error);
  } finally {
    if (running === mine) {
      running = null;
      document.body.classList.remove("busy");
      part.why.disabled = false;
    }
  }
}

function complain(error) {
  part.error.textContent = error instanceof Refused ? error.message
    : "This page failed. Reload it.";
  show(part.error, true);
  if (!(error instanceof Refused)) console.error(error);
}

// ---------------------------------------------------------------------------------- the answer

function clear() {
  part.verdict.textContent = QUESTION;
  document.title = `${QUESTION} · Opsin`;
  document.body.classList.remove("none");
  for (const id of ["bars", "notes", "what", "why", "explained"]) show(part[id], false);
  show(part.empty, true);
}

function present(answer) {
  const verdict = answer.rejected ? "None of these: looks unlike the training images"
    : `${answer.label}, ${percent(answer.confidence)}`;
  part.verdict.textContent = verdict;
  document.title = `${verdict} · Opsin`;
  document.body.classList.toggle("none", answer.rejected);
  part.bars.replaceChildren(...answer.top.map((row) => bar(row.label, row.score)));
  const notes = answer.rejected === null ? [...answer.notes, CANNOT_TELL] : answer.notes;
  part.notes.replaceChildren(...notes.map((note) => element("li", note)));
  show(part.notes, notes.length > 0);
  show(part.bars, true);
  show(part.what, true);
  show(part.why, true);
  show(part.empty, false);
  show_heat(answer.explanation ? answer : null);
}

function bar(label, score) {
  const row = element("div");
  const line = element("dd", "", "bar");
  const inner = element("i");
  inner.style.width = `${100 * score}%`;
  line.append(inner);
  line.setAttribute("aria-hidden", "true"); // the number says the same
  row.append(element("dt", label), element("dd", percent(score)), line);
  return row;
}

// ---------------------------------------------------------------------------------- why

const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
  [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];

function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[below].map((low, i) => low + (place - below) * (VIRIDIS[below + 1][i] - low));
}

function show_heat(answer) {
  const on = Boolean(answer);
  show(part.heat, false);
  show(part.explained, on);
  part.why.setAttribute("aria-pressed", String(on));
  part.why.textContent = on ? "Hide the reason" : "Why?";
  if (!on) return;
  const rows = answer.explanation.heat, height = rows.length, width = rows[0].length;
  const most = Math.max(...rows.map((row) => Math.max(...row)));
  // Where the subject was cut out of its background, places in the map are not the image's.
  const alone = answer.notes.length > 0 || part.shown.hidden;
  const decides = most >= 0.01; // else the map would show noise, as bright as anything
  const map = new ImageData(width, height);
  rows.forEach((row, y) => row.forEach((value, x) => {
    const share = most > 0 ? Math.max(value, 0) / most : 0;
    map.data.set([...colour(share), alone ? 255 : 70 + 140 * share], 4 * (y * width + x));
  }));
  const small = document.createElement("canvas");
  small.width = width;
  small.height = height;
  small.getContext("2d").putImageData(map, 0, 0);
  lay(small, alone);
  show(part.heat, decides);
  part.explained.textContent = !decides
    ? "No single part decides: hiding any one of them takes less than 1 point from the probability."
    : `Bright: hiding this part takes up to ${Math.round(100 * most)} points from the probability of ` +
      `${answer.label}.` + (alone ? " The image was changed before (see above), so the map stands by itself." : "");
}

// Lay the map over the part of the image that the model saw.
function lay(map, alone) {
  const large = Math.max(part.shown.naturalWidth, part.shown.naturalHeight) || 1;
  const wide = alone ? map.width : 800 * part.shown.naturalWidth / large;
  const high = alone ? map.height : 800 * part.shown.naturalHeight / large;
  part.heat.width = Math.max(1, Math.round(wide));
  part.heat.height = Math.max(1, Math.round(high));
  const resize = alone ? "squash" : chosen().resize;
  let [sx, sy] = [wide / map.width, high / map.height];
  if (resize === "fit") sx = sy = Math.max(sx, sy);
  if (resize === "fill") sx = sy = Math.min(sx, sy);
  const paper = part.heat.getContext("2d");
  paper.imageSmoothingEnabled = false;
  paper.drawImage(map, (wide - sx * map.width) / 2, (high - sy * map.height) / 2,
    sx * map.width, sy * map.height);
}

part.why.addEventListener("click", () => {
  if (part.explained.hidden) classify(true);
  else show_heat(null);
});

// ---------------------------------------------------------------------------------- ways in

part.file.addEventListener("change", () => { take(part.file.files[0]); part.file.value = ""; });
part.capture.addEventListener("change", () => { take(part.capture.files[0]); part.capture.value = ""; });

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    part.drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) part.drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  part.drop.classList.remove("over");
  receive(event.dataTransfer, "dropped");
});
document.addEventListener("paste", (event) => receive(event.clipboardData, "pasted"));

function receive(data, how) {
  const file = data && data.files[0];
  if (file) return take(file);
  complain(new Refused(`What was ${how} holds no image. Select a file instead.`));
}

part.photograph.addEventListener("click", async () => {
  const reach = navigator.mediaDevices && navigator.mediaDevices.getUserMedia;
  // Telephones open their own camera; so do all where the page may not use it (plain HTTP).
  if (!reach || matchMedia("(pointer: coarse)").matches) return part.capture.click();
  show(part.error, false);
  part.photograph.disabled = true; // while the browser asks: a second stream would stay on unseen
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    return complain(new Refused(error.name === "NotAllowedError"
      ? "The camera is not allowed. Allow it in the browser, or select a file."
      : "No camera can be used. Select a file instead."));
  } finally {
    part.photograph.disabled = false;
  }
  part.camera.srcObject = stream;
  await part.camera.play();
  camera(true);
  part.shoot.focus();
});

function camera(on) {
  for (const id of ["camera", "shoot", "stop"]) show(part[id], on);
  show(part.photograph, !on);
  if (on) show_heat(null);
  show(part.shown, !on && Boolean(image));
  show(part.hint, !on && !image);
  show(part.why, !on && !part.bars.hidden);
}

function stop_camera() {
  if (!stream) return;
  stream.getTracks().forEach((track) => track.stop());
  stream = part.camera.srcObject = null;
  camera(false);
}

part.shoot.addEventListener("click", () => {
  const paper = document.createElement("canvas");
  paper.width = part.camera.videoWidth;
  paper.height = part.camera.videoHeight;
  paper.getContext("2d").drawImage(part.camera, 0, 0);
  paper.toBlob((blob) => take(blob), "image/jpeg", 0.95);
});
part.stop.addEventListener("click", () => { stop_camera(); part.photograph.focus(); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") stop_camera(); });

part.model.addEventListener("change", () => { describe(); if (image) classify(false); });
part.keep.addEventListener("change", () => { if (image) classify(false); });

start();
