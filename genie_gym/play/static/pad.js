"use strict";
// The keys drawn on the page: pressed by pointers, several at once and sliding from key to key, and lit while held.

const held = new Set(); // keys of the keyboard that are held
const pressed = new Map(); // pointer, or "keyboard" -> meaning of the drawn key that it holds, or null beside the keys
const tapped = new Set(); // meanings pressed since the last step, so that none is too short to count

function heldMeanings() {
  return new Set([...[...held].map((key) => keys[key]), ...pressed.values()].filter(Boolean));
}

function press(holder, meaning) {
  if (pressed.get(holder) === meaning) return;
  pressed.set(holder, meaning);
  if (meaning) tapped.add(meaning);
  showHeld();
  requestStep();
}

function release(holder) {
  if (pressed.delete(holder)) showHeld();
}

function showHeld() {
  const meanings = heldMeanings();
  for (const key of document.querySelectorAll("[data-key]")) key.classList.toggle("lit", meanings.has(key.dataset.key));
}

function showAction(action) {
  for (const key of $("actions").children) key.classList.toggle("now", Number(key.dataset.action) === action);
}

function addAction(name, action) {
  const key = document.createElement("button");
  const digit = document.createElement("small");
  digit.textContent = action + 1;
  key.className = "key";
  key.dataset.action = action;
  key.dataset.key = `action ${action + 1}`;
  key.append(digit, name);
  $("actions").append(key);
}

function preparePad() {
  const pad = $("pad");
  const meaningAt = (event) => {
    const key = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-key]");
    return key && pad.contains(key) ? key.dataset.key : null;
  };
  pad.addEventListener("pointerdown", (event) => event.button === 0 && press(event.pointerId, meaningAt(event)));
  pad.addEventListener("contextmenu", (event) => event.preventDefault()); // of a long touch
  document.addEventListener("pointermove", (event) => pressed.has(event.pointerId) && press(event.pointerId, meaningAt(event)));
  for (const kind of ["pointerup", "pointercancel"]) document.addEventListener(kind, (event) => release(event.pointerId));
  const isPress = (event) => [" ", "Enter"].includes(event.key) && event.target.dataset.key;
  pad.addEventListener("keydown", (event) => isPress(event) && press("keyboard", event.target.dataset.key));
  pad.addEventListener("keyup", (event) => isPress(event) && release("keyboard"));
  pad.addEventListener("focusout", () => release("keyboard"));
}
