"use strict";
// The stage: the frame at a whole number of screen pixels per pixel, what is said over it, and the strip of starts.

const BEZEL = 14; // width of the border around the frame, both sides together
const STATUS_MS = 10_000; // how long a message stays
let statusTimer = null;

function fitScreen() {
  const { clientWidth, clientHeight } = $("stage");
  const screen = $("screen");
  const room = Math.min((clientWidth - BEZEL) / screen.width, (clientHeight - BEZEL) / screen.height) * devicePixelRatio;
  const scale = (room < 1 ? room : Math.floor(room)) / devicePixelRatio;
  screen.style.width = `${screen.width * scale}px`;
  screen.style.height = `${screen.height * scale}px`;
}

function draw(pixels) {
  const image = new ImageData(world.width, world.height);
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    image.data[to] = pixels[from];
    image.data[to + 1] = pixels[from + 1];
    image.data[to + 2] = pixels[from + 2];
    image.data[to + 3] = 255;
  }
  $("screen").getContext("2d", CANVAS_OPTIONS).putImageData(image, 0, 0);
  $("screen").dataset.steps = steps;
}

// Shows a message over the stage for some seconds, or until the next one if it stays.
function showStatus(text, { isError = false, stays = false } = {}) {
  clearTimeout(statusTimer);
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
  if (text && !stays) statusTimer = setTimeout(() => showStatus(""), STATUS_MS);
}

function showHint(text) {
  if ($("hint").textContent === text) return;
  $("hint").textContent = text;
  $("hint").hidden = text === "";
}

function listStarts(number) {
  for (let start = 0; start < number; start++) {
    const label = document.createElement("label");
    const choice = document.createElement("input");
    const picture = document.createElement("img");
    Object.assign(choice, { type: "radio", name: "start", value: start });
    Object.assign(picture, { src: `starts/${start}.png`, alt: `Start clip ${start + 1}` });
    choice.onclick = () => send({ do: "start", number: start });
    label.dataset.start = start;
    label.append(choice, picture);
    $("strip").append(label);
  }
  $("starts").hidden = number === 0;
  $("strip").addEventListener("wheel", (event) => ($("strip").scrollLeft += event.deltaY), { passive: true });
}

function showStart(number) {
  for (const choice of document.querySelectorAll("#strip input")) choice.checked = Number(choice.value) === number;
}
