"use strict";
// One message at a time: the next is sent when the last is answered.

const $ = (id) => document.getElementById(id);
const FRAME = 0;
const WAYS = { w: "up", a: "left", s: "down", d: "right", arrowup: "up", arrowleft: "left", arrowdown: "down", arrowright: "right" };

const held = new Set(); // keys
let touched = null; // the action of a button that is held
let world = null;
let socket = null;
let isWaiting = false;
let isPaused = false;
let wantsOnce = false;
let steps = 0;
let replayed = []; // actions that are still to be played again
let sentAt = 0;
let frameTimes = [];
let latencies = [];
const queue = []; // messages that wait for their turn
let nextStep = 0; // when the next frame is due

function say(text) {
  $("status").textContent = text;
}

function send(message) {
  queue.push(message);
  pump();
}

function pump() {
  if (isWaiting || queue.length === 0 || socket.readyState !== WebSocket.OPEN) return;
  const message = queue.shift();
  isWaiting = true;
  sentAt = performance.now();
  socket.send(message instanceof ArrayBuffer ? message : JSON.stringify(message));
}

function answered() {
  isWaiting = false;
  pump();
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const token = new URLSearchParams(location.search).get("token");
  const query = token === null ? "" : `?token=${encodeURIComponent(token)}`;
  socket = new WebSocket(`${scheme}://${location.host}${location.pathname.replace(/[^/]*$/, "")}play${query}`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => send({ do: "start" });
  socket.onclose = (event) => say(`The connection is closed. ${event.reason} Load the page again to go on.`);
  socket.onmessage = (event) => (typeof event.data === "string" ? hear(JSON.parse(event.data)) : receive(event.data));
}

function hear(message) {
  if (message.kind === "world") {
    world = message;
    const screen = $("screen");
    screen.width = world.width;
    screen.height = world.height;
    world.names.forEach(addAction);
    say("");
  } else if (message.kind === "replay") {
    replayed = message.actions; // its first frame follows
  } else {
    say(message.message);
    replayed = [];
    answered();
  }
}

function receive(data) {
  const view = new DataView(data);
  if (view.getUint8(0) === FRAME) {
    steps = view.getUint32(1, true);
    draw(new Uint8Array(data, 5));
    const now = performance.now();
    latencies = [...latencies.slice(-29), now - sentAt];
    frameTimes = [...frameTimes.slice(-29), now];
  } else {
    download(new Uint8Array(data, 1));
  }
  answered();
}

function draw(pixels) {
  const image = new ImageData(world.width, world.height);
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    image.data[to] = pixels[from];
    image.data[to + 1] = pixels[from + 1];
    image.data[to + 2] = pixels[from + 2];
    image.data[to + 3] = 255;
  }
  $("screen").getContext("2d").putImageData(image, 0, 0);
  $("screen").dataset.steps = steps;
}

function addAction(name, action) {
  const button = document.createElement("button");
  button.textContent = `${action + 1} ${name}`;
  button.dataset.action = action;
  const press = (event) => {
    if (event.repeat) return;
    touched = action;
    button.setAttribute("aria-pressed", "true");
  };
  const release = () => {
    if (touched === action) touched = null;
    button.setAttribute("aria-pressed", "false");
  };
  button.addEventListener("pointerdown", press);
  for (const kind of ["pointerup", "pointerleave", "pointercancel", "blur"]) button.addEventListener(kind, release);
  button.addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && press(event));
  button.addEventListener("keyup", (event) => [" ", "Enter"].includes(event.key) && release());
  $("actions").append(button);
}

// The same rule as genie_gym.play.keys: digits are actions, directions go by names, no key stands still.
function choose() {
  if (touched !== null) return touched;
  for (const key of held) {
    const number = Number(key);
    if (number >= 1 && number <= world.names.length) return number - 1;
  }
  const ways = new Set([...held].filter((key) => key in WAYS).map((key) => WAYS[key]));
  const one = (first, second) => (ways.has(first) === ways.has(second) ? "" : ways.has(first) ? first : second);
  const row = one("up", "down");
  const column = one("left", "right");
  const wanted = row || column ? [`${row} ${column}`.trim(), row, column] : ["still"];
  for (const way of wanted) {
    const action = byWay(way);
    if (way && action !== null) return action;
  }
  return null;
}

function byWay(way) {
  const sorted = world.names.map((name, action) => [name, action]).sort();
  const found = sorted.find(([name]) => name.replace(/[0-9]+$/, "").trim() === way);
  return found ? found[1] : null;
}

function tick() {
  requestAnimationFrame(tick);
  if (world === null || isWaiting || queue.length > 0) return;
  const now = performance.now();
  if (replayed.length > 0) {
    send({ do: "step", action: replayed.shift() });
    return;
  }
  if ((isPaused && !wantsOnce) || now < nextStep) return;
  const action = $("driver").value === "random" ? Math.floor(Math.random() * world.names.length) : choose();
  if (action === null) return;
  wantsOnce = false;
  nextStep = Math.max(now - 50, nextStep) + 1000 / world.frames_per_second;
  send({ do: "step", action });
}

function tellSpeed() {
  const recent = frameTimes.filter((time) => performance.now() - time < 2000);
  const rate = recent.length > 1 ? ((recent.length - 1) * 1000) / (recent[recent.length - 1] - recent[0]) : 0;
  const latency = latencies.length ? latencies.reduce((sum, each) => sum + each, 0) / latencies.length : 0;
  $("rate").textContent = `frame ${steps}, ${rate.toFixed(0)} frames/s, ${latency.toFixed(0)} ms a frame`;
}

let saving = "gif";
function save(kind) {
  saving = kind;
  send({ do: "save", as: kind });
}

function download(bytes) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes]));
  link.download = `genie.${saving}`;
  link.click();
  URL.revokeObjectURL(link.href);
}

function pause() {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
}

async function walkIn(file) {
  if (!file) return;
  replayed = [];
  send(await file.arrayBuffer());
  say("A picture of another shape is cropped in its middle, then scaled.");
}

async function playAgain(file) {
  if (!file) return;
  send({ do: "replay", trajectory: await file.text() });
}

function prepareSketch() {
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
  $("walk").onclick = () => canvas.toBlob(walkIn, "image/png");
  clear();
}

function isTyping(event) {
  return event.target instanceof HTMLElement && ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
}

const COMMANDS = {
  pause,
  once: () => (wantsOnce = true),
  undo: () => send({ do: "undo" }),
  restart: () => send({ do: "restart" }),
  elsewhere: () => send({ do: "start" }),
};
const COMMAND_KEYS = { " ": "pause", n: "once", backspace: "undo", r: "restart", e: "elsewhere" };

function listen() {
  for (const [id, command] of Object.entries(COMMANDS)) $(id).onclick = command;
  for (const kind of ["gif", "mp4", "json"]) $(kind).onclick = () => save(kind);
  $("picture").onchange = (event) => walkIn(event.target.files[0]);
  $("again").onchange = (event) => playAgain(event.target.files[0]);
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    walkIn(event.dataTransfer.files[0]);
  });
  document.addEventListener("keydown", (event) => {
    if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    const onButton = event.target instanceof HTMLButtonElement && [" ", "enter"].includes(key);
    if (key.startsWith("arrow") || key === "backspace" || (key === " " && !onButton)) event.preventDefault();
    held.add(key);
    if (!event.repeat && !onButton && key in COMMAND_KEYS) COMMANDS[COMMAND_KEYS[key]]();
  });
  document.addEventListener("keyup", (event) => held.delete(event.key.toLowerCase()));
  window.addEventListener("blur", () => held.clear());
}

listen();
prepareSketch();
connect();
setInterval(tellSpeed, 250);
tick();
