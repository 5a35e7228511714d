"use strict";
// The meanings of keys, by the rule of genie_gym.envs.keys; each can be changed, and the browser remembers it.

const DEFAULT_KEYS = {
  arrowup: "up", w: "up", arrowdown: "down", s: "down", arrowleft: "left", a: "left", arrowright: "right", d: "right",
  " ": "pause", n: "once", backspace: "undo", r: "restart", e: "elsewhere",
};
for (let number = 1; number <= 9; number++) DEFAULT_KEYS[number] = `action ${number}`;
const DIRECTIONS = ["up", "down", "left", "right"];
const SAME_NAMES = { jump: "up", stay: "still" }; // other words in the names of actions
const COMMAND_NAMES = { pause: "Pause", once: "Step", undo: "Undo", restart: "Restart", elsewhere: "New start" };
const RESERVED_KEYS = ["tab", "enter", "shift", "control", "alt", "meta"]; // needed to navigate the page
const STORAGE_KEY = "genie keys";

let keys = readKeys(); // key -> meaning
let changing = null; // the meaning that is waiting for a new key

function readKeys() {
  try {
    const saved = JSON.parse(localStorage.getItem(STORAGE_KEY));
    const known = new Set(Object.values(DEFAULT_KEYS));
    if (saved && Object.values(saved).every((meaning) => known.has(meaning))) return saved;
  } catch (error) {
    console.warn("saved keys cannot be read", error);
  }
  return { ...DEFAULT_KEYS };
}

// The latent action that the meanings of the keys held choose, or null if they choose none: a digit by its number,
// directions by the names of actions. Without a direction, the action named "still" is chosen, if there is one.
function chooseAction(meanings, names) {
  for (const meaning of meanings) {
    const number = meaning.startsWith("action ") ? Number(meaning.slice(7)) : 0;
    if (number >= 1 && number <= names.length) return number - 1;
  }
  // Opposite directions cancel.
  const only = (first, second) => (meanings.has(first) === meanings.has(second) ? "" : meanings.has(first) ? first : second);
  const row = only("up", "down");
  const column = only("left", "right");
  const wanted = row || column ? [`${row} ${column}`.trim(), row, column] : ["still"];
  for (const direction of wanted) {
    const action = actionOfDirection(direction, names);
    if (direction && action !== null) return action;
  }
  return null;
}

function isMove(meaning) {
  return DIRECTIONS.includes(meaning) || meaning.startsWith("action ");
}

function actionOfDirection(direction, names) {
  const words = (name) => name.replace(/[0-9]+$/, "").trim().split(" ").map((word) => SAME_NAMES[word] || word).join(" ");
  const sorted = names.map((name, action) => [name, action]).sort();
  const found = sorted.find(([name]) => words(name) === direction);
  return found ? found[1] : null;
}

const KEY_SIGNS = { arrowup: "↑", arrowdown: "↓", arrowleft: "←", arrowright: "→", " ": "space", backspace: "⌫" };
function keysOf(meaning) {
  return Object.keys(keys).filter((key) => keys[key] === meaning).map((key) => KEY_SIGNS[key] || key);
}

function listKeys(names) {
  const rows = [...DIRECTIONS.map((direction) => [direction, direction]), ...Object.entries(COMMAND_NAMES)];
  names.slice(0, 9).forEach((name, action) => rows.push([`action ${action + 1}`, `${action + 1} ${name}`]));
  $("keys").replaceChildren(
    ...rows.map(([meaning, name]) => {
      const button = document.createElement("button");
      const sign = document.createElement("kbd");
      button.className = "button";
      button.dataset.meaning = meaning;
      sign.dataset.of = meaning;
      button.append(name, sign);
      button.onclick = () => {
        changing = meaning;
        showKeys();
      };
      return button;
    }),
  );
  showKeys();
}

function showKeys() {
  for (const sign of document.querySelectorAll("kbd[data-of]")) {
    sign.textContent = sign.dataset.of === changing ? "press a key" : keysOf(sign.dataset.of).join(" ") || "none";
  }
  for (const sign of document.querySelectorAll("#transport kbd")) sign.textContent = keysOf(sign.dataset.of)[0] || "none";
}

// Gives the key to the meaning that waits for one, and returns whether one did; then the key has no other effect.
function changeKey(key) {
  if (changing === null || RESERVED_KEYS.includes(key)) return false;
  if (key !== "escape") {
    for (const old of Object.keys(keys)) if (keys[old] === changing) delete keys[old];
    keys[key] = changing;
    saveKeys();
  }
  changing = null;
  showKeys();
  return true;
}

function resetKeys() {
  keys = { ...DEFAULT_KEYS };
  saveKeys();
}

function saveKeys() {
  localStorage.setItem(STORAGE_KEY, JSON.stringify(keys));
  showKeys();
}
