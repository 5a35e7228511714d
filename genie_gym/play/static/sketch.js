"use strict";
// A canvas to draw on; "use" is called with the sketch as a PNG blob.

const SKY = "#7ec8e3";
const PAINTS = { sky: SKY, earth: "#c08040", grass: "#4f9a3c", stone: "#8b97a5", night: "#10121c", coin: "#ffd23c", figure: "#f2a6b5" };

function prepareSketch(use) {
  const canvas = $("sketch");
  const context = canvas.getContext("2d");
  const clear = () => {
    context.fillStyle = SKY;
    context.fillRect(0, 0, canvas.width, canvas.height);
    $("paper").classList.remove("drawn");
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
  };
  const line = (event) => {
    context.lineCap = "round";
    context.lineWidth = Number($("width").value);
    context.strokeStyle = $("colour").value;
    context.lineTo(...place(event));
    context.stroke();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    $("paper").classList.add("drawn");
    context.beginPath();
    context.moveTo(...place(event));
    line(event); // a dot
  });
  canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && line(event));
  $("clear").onclick = clear;
  $("walk").onclick = () => canvas.toBlob(use, "image/png");
  listPaints();
  clear();
}

// Gives the paper the shape of the world's frames.
function fitSketch(ratio) {
  const canvas = $("sketch");
  const scale = 256 / Math.max(ratio, 1);
  canvas.width = Math.round(scale * ratio);
  canvas.height = Math.round(scale);
  canvas.style.aspectRatio = ratio;
  $("clear").click(); // a new size empties the canvas
}

function listPaints() {
  const buttons = Object.entries(PAINTS).map(([name, colour]) => {
    const button = document.createElement("button");
    button.style.background = colour;
    button.setAttribute("aria-label", name);
    button.onclick = () => {
      $("colour").value = colour;
      showPaint();
    };
    button.dataset.colour = colour;
    return button;
  });
  const showPaint = () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.colour === $("colour").value));
  };
  $("colour").oninput = showPaint;
  $("paints").prepend(...buttons);
  showPaint();
}
