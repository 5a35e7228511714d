"use strict";
// A canvas to draw on; "use" is called with the sketch as a PNG blob.

function prepareSketch(use) {
  const canvas = $("sketch");
  const context = canvas.getContext("2d");
  const clear = () => {
    context.fillStyle = "#7ec8e3";
    context.fillRect(0, 0, canvas.width, canvas.height);
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
  };
  let isDrawing = false;
  canvas.addEventListener("pointerdown", (event) => {
    isDrawing = true;
    context.beginPath();
    context.moveTo(...place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!isDrawing) return;
    context.lineCap = "round";
    context.lineWidth = Number($("width").value);
    context.strokeStyle = $("colour").value;
    context.lineTo(...place(event));
    context.stroke();
  });
  for (const kind of ["pointerup", "pointerleave"]) canvas.addEventListener(kind, () => (isDrawing = false));
  $("clear").onclick = clear;
  $("walk").onclick = () => canvas.toBlob(use, "image/png");
  clear();
}
