"use strict";
// The page of genie-gym play. One message at a time: the next one is sent when the last one is answered, or on user
// input. The page is idle in between: without a graphics card, drawing takes time from the world on the same machine.

const $ = (id) => document.getElementById(id);
const FRAME = 0;
const HEADER = 7; // bytes before a frame's pixels
const CANVAS_OPTIONS = { alpha: false, desynchronized: true }; // the cheapest way to draw
const REPLAY_MESSAGES = ["step", "drive", "save", "fit"]; // messages that do not end a replay

const held = new Set(); // keys that are held
let heldAction = null; // the latent action whose button is held
let world = null;
let socket = null;
let isWaiting = false;
let isPaused = false;
let isSingleStep = false;
let steps = 0;
let replayed = []; // latent actions of a replay that are still to be sent
let sentAt = 0;
let frameTimes = [];
let latencies = [];
const queue = []; // messages to send
let nextStepTime = 0; // when the next step is due
let timer = null; // requests the next step when it is due

function showStatus(text) {
  $("status").textContent = text;
}

function send(message) {
  queue.push(message);
  sendNext();
}

function sendNext() {
  if (isWaiting || queue.length === 0 || socket.readyState !== WebSocket.OPEN) return;
  const message = queue.shift();
  if (!REPLAY_MESSAGES.includes(message.do)) replayed = [];
  isWaiting = true;
  sentAt = performance.now();
  socket.send(message instanceof ArrayBuffer ? message : JSON.stringify(message));
}

function finishMessage() {
  isWaiting = false;
  sendNext();
  requestStep();
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const token = new URLSearchParams(location.search).get("token");
  const query = token === null ? "" : `?token=${encodeURIComponent(token)}`;
  socket = new WebSocket(`${scheme}://${location.host}${location.pathname.replace(/[^/]*$/, "")}play${query}`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => send({ do: "start" });
  socket.onclose = (event) => showStatus(`The connection is closed. ${event.reason} Reload the page to continue.`);
  socket.onmessage = (event) => (typeof event.data === "string" ? handleJson(JSON.parse(event.data)) : handleBytes(event.data));
}

function handleJson(message) {
  if (message.kind === "world") {
    world = message;
    const screen = $("screen");
    screen.width = world.width;
    screen.height = world.height;
    world.names.forEach(addAction);
    listKeys(world.names);
    listStarts(world.starts);
    $("speed").value = world.frames_per_second;
    $("policy").hidden = $("policy").disabled = !world.has_policy;
    showStatus("");
  } else if (message.kind === "replay") {
    replayed = message.actions; // the first frame follows
  } else if (message.kind === "picture") {
    showStatus(message.message); // the first frame follows
  } else if (message.kind === "fit") {
    finishMessage();
  } else {
    showStatus(message.message);
    replayed = [];
    if ($("driver").value === "policy") $("driver").value = "you"; // the policy may have caused the error
    finishMessage();
  }
}

function handleBytes(data) {
  const view = new DataView(data);
  if (view.getUint8(0) === FRAME) {
    steps = view.getUint32(1, true);
    const now = performance.now();
    latencies = [...latencies.slice(-29), now - sentAt];
    frameTimes = [...frameTimes.slice(-29), now];
    finishMessage(); // before drawing, so that the world generates the next frame meanwhile
    draw(new Uint8Array(data, HEADER));
    showAction(view.getInt16(5, true));
  } else {
    finishMessage();
    download(new Uint8Array(data, 1));
  }
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

function addAction(name, action) {
  const button = document.createElement("button");
  button.textContent = `${action + 1} ${name}`;
  button.dataset.action = action;
  const press = (event) => {
    if (event.repeat) return;
    heldAction = action;
    button.setAttribute("aria-pressed", "true");
    requestStep();
  };
  const release = () => {
    if (heldAction === action) heldAction = null;
    button.setAttribute("aria-pressed", "false");
  };
  button.addEventListener("pointerdown", press);
  for (const kind of ["pointerup", "pointerleave", "pointercancel", "blur"]) button.addEventListener(kind, release);
  button.addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && press(event));
  button.addEventListener("keyup", (event) => [" ", "Enter"].includes(event.key) && release());
  $("actions").append(button);
}

function showAction(action) {
  for (const button of $("actions").children) button.classList.toggle("now", Number(button.dataset.action) === action);
}

function listStarts(number) {
  for (let start = 0; start < number; start++) {
    const button = document.createElement("button");
    const picture = document.createElement("img");
    picture.src = `starts/${start}.png`;
    picture.alt = `Start frame ${start + 1}`;
    picture.loading = "lazy";
    button.append(picture);
    button.dataset.start = start;
    button.onclick = () => send({ do: "start", number: start });
    $("starts").append(button);
  }
}

function requestStep() {
  if (world === null || isWaiting || queue.length > 0) return;
  if (replayed.length > 0) {
    send({ do: "step", action: replayed.shift() });
    return;
  }
  const now = performance.now();
  if (isPaused && !isSingleStep) return;
  if (now < nextStepTime) {
    clearTimeout(timer);
    timer = setTimeout(requestStep, nextStepTime - now);
    return;
  }
  const message = chooseMessage();
  if (message === null) return;
  isSingleStep = false;
  const rate = Number($("speed").value); // 0: as fast as possible
  nextStepTime = rate ? Math.max(now - 50, nextStepTime) + 1000 / rate : now;
  send(message);
}

function chooseMessage() {
  if ($("driver").value === "policy") return { do: "drive" };
  if ($("driver").value === "random") return { do: "step", action: Math.floor(Math.random() * world.names.length) };
  const action = heldAction === null ? chooseAction(held, world.names) : heldAction;
  return action === null ? null : { do: "step", action };
}

function showSpeed() {
  const recent = frameTimes.filter((time) => performance.now() - time < 2000);
  const rate = recent.length > 1 ? ((recent.length - 1) * 1000) / (recent[recent.length - 1] - recent[0]) : 0;
  const latency = latencies.length ? latencies.reduce((sum, each) => sum + each, 0) / latencies.length : 0;
  $("rate").textContent = `frame ${steps}, ${rate.toFixed(0)} frames/s, ${latency.toFixed(0)} ms per frame`;
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

async function startOnPicture(file) {
  if (file) send(await file.arrayBuffer());
}

async function replayFile(file) {
  if (file) send({ do: "replay", trajectory: await file.text() });
}

function isTyping(event) {
  return event.target instanceof HTMLElement && ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
}

const COMMANDS = {
  pause,
  once: () => (isSingleStep = true),
  undo: () => send({ do: "undo" }),
  restart: () => send({ do: "restart" }),
  elsewhere: () => send({ do: "start" }),
};

function listen() {
  for (const [id, command] of Object.entries(COMMANDS)) {
    $(id).onclick = () => {
      command();
      requestStep();
    };
  }
  for (const id of ["driver", "speed"]) $(id).addEventListener("change", requestStep);
  for (const kind of ["gif", "mp4", "json"]) $(kind).onclick = () => save(kind);
  $("reset").onclick = resetKeys;
  $("fit").onchange = (event) => send({ do: "fit", as: event.target.value });
  $("picture").onchange = (event) => startOnPicture(event.target.files[0]);
  $("again").onchange = (event) => replayFile(event.target.files[0]);
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    startOnPicture(event.dataTransfer.files[0]);
  });
  document.addEventListener("keydown", (event) => {
    if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (changeKey(key)) {
      event.preventDefault();
      return;
    }
    const onButton = event.target instanceof HTMLButtonElement && [" ", "enter"].includes(key);
    if (key in keys && !onButton) event.preventDefault();
    held.add(key);
    if (!event.repeat && !onButton && keys[key] in COMMANDS) COMMANDS[keys[key]]();
    requestStep();
  });
  document.addEventListener("keyup", (event) => held.delete(event.key.toLowerCase()));
  window.addEventListener("blur", () => held.clear());
}

listen();
prepareSketch(startOnPicture);
connect();
setInterval(showSpeed, 250);
