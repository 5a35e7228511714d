"use strict";
// What keys mean: the same rule as genie_gym.play.keys, and a table of them that a person may change for this browser.

const DEFAULT_KEYS = {
  arrowup: "up", w: "up", arrowdown: "down", s: "down", arrowleft: "left", a: "left", arrowright: "right", d: "right",
  " ": "pause", n: "once", backspace: "undo", r: "restart", e: "elsewhere",
};
for (let number = 1; number <= 9; number++) DEFAULT_KEYS[number] = `action ${number}`;
const WAYS = ["up", "down", "left", "right"];
const COMMAND_NAMES = { pause: "Pause", once: "One frame", undo: "Undo", restart: "From the start", elsewhere: "Elsewhere" };
const NOT_KEYS = ["tab", "enter", "shift", "control", "alt", "meta"]; // a page is walked through with them
const KEPT_AS = "genie keys";

let keys = readKeys(); // key -> meaning
let changing = null; // the meaning that waits for its key

function readKeys() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT_AS));
    const known = new Set(Object.values(DEFAULT_KEYS));
    if (kept && Object.values(kept).every((meaning) => known.has(meaning))) return kept;
  } catch (error) {
    console.warn("keys that were kept cannot be read", error);
  }
  return { ...DEFAULT_KEYS };
}

// Keys held -> a latent action, or null where they mean none. Digits are actions, directions go by names, no key
// stands still.
function chooseAction(held, names) {
  const meanings = [...held].map((key) => keys[key]).filter((meaning) => meaning !== undefined);
  for (const meaning of meanings) {
    const number = meaning.startsWith("action ") ? Number(meaning.slice(7)) : 0;
    if (number >= 1 && number <= names.length) return number - 1;
  }
  const ways = new Set(meanings.filter((meaning) => WAYS.includes(meaning)));
  const one = (first, second) => (ways.has(first) === ways.has(second) ? "" : ways.has(first) ? first : second);
  const row = one("up", "down");
  const column = one("left", "right");
  const wanted = row || column ? [`${row} ${column}`.trim(), row, column] : ["still"];
  for (const way of wanted) {
    const action = actionOfWay(way, names);
    if (way && action !== null) return action;
  }
  return null;
}

function actionOfWay(way, names) {
  const sorted = names.map((name, action) => [name, action]).sort();
  const found = sorted.find(([name]) => name.replace(/[0-9]+$/, "").trim() === way);
  return found ? found[1] : null;
}

const KEY_SIGNS = { arrowup: "↑", arrowdown: "↓", arrowleft: "←", arrowright: "→", " ": "space", backspace: "⌫" };
function keysOf(meaning) {
  return Object.keys(keys).filter((key) => keys[key] === meaning).map((key) => KEY_SIGNS[key] || key);
}

function listKeys(names) {
  const rows = [...WAYS.map((way) => [way, way]), ...Object.entries(COMMAND_NAMES)];
  names.slice(0, 9).forEach((name, action) => rows.push([`action ${action + 1}`, `${action + 1} ${name}`]));
  $("keys").replaceChildren(
    ...rows.map(([meaning, name]) => {
      const button = document.createElement("button");
      button.dataset.meaning = meaning;
      button.append(`${name}: `, document.createElement("kbd"));
      button.onclick = () => {
        changing = meaning;
        say(`Press the key for "${name}", or escape to leave it as it is.`);
      };
      return button;
    }),
  );
  tellKeys();
}

function tellKeys() {
  for (const button of document.querySelectorAll("[data-meaning]")) {
    button.querySelector("kbd").textContent = keysOf(button.dataset.meaning).join(" ") || "none";
  }
}

// Whether a key was waited for: then it means nothing else this time.
function changeKey(key) {
  if (changing === null || NOT_KEYS.includes(key)) return false;
  if (key !== "escape") {
    for (const old of Object.keys(keys)) if (keys[old] === changing) delete keys[old];
    keys[key] = changing;
    keepKeys();
  }
  changing = null;
  say("");
  return true;
}

function resetKeys() {
  keys = { ...DEFAULT_KEYS };
  keepKeys();
}

function keepKeys() {
  localStorage.setItem(KEPT_AS, JSON.stringify(keys));
  tellKeys();
}
