"use strict";
// The page of genie-gym play. One message at a time: the next one is sent when the last one is answered, or on user
// input. The page is idle in between: without a graphics card, drawing takes time from the world on the same machine.

const $ = (id) => document.getElementById(id);
const FRAME = 0;
const HEADER = 7; // bytes before a frame's pixels
const CANVAS_OPTIONS = { alpha: false, desynchronized: true }; // the cheapest way to draw
const REPLAY_MESSAGES = ["step", "drive", "save", "fit"]; // messages that do not end a replay

let world = null;
let socket = null;
let isWaiting = false;
let isPaused = false;
let isSingleStep = false;
let steps = 0;
let idleSteps = Infinity; // steps since a key was last held; a world that waits stops when they are too many
let replayed = []; // latent actions of a replay that are still to be sent
let sentAt = 0;
let frameTimes = [];
let latencies = [];
const queue = []; // messages to send
let nextStepTime = 0; // when the next step is due
let timer = null; // requests the next step when it is due

function send(message) {
  queue.push(message);
  sendNext();
}

function sendNext() {
  if (isWaiting || queue.length === 0 || socket.readyState !== WebSocket.OPEN) return;
  const message = queue.shift();
  if (!REPLAY_MESSAGES.includes(message.do)) beginEpisode(message);
  isWaiting = true;
  sentAt = performance.now();
  socket.send(message instanceof ArrayBuffer ? message : JSON.stringify(message));
}

function beginEpisode(message) {
  replayed = [];
  idleSteps = Infinity;
  tapped.clear();
  openSide(false);
  if (!["undo", "restart"].includes(message.do)) showStart(message.number ?? null);
}

function finishMessage() {
  isWaiting = false;
  sendNext();
  requestStep();
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}${location.pathname.replace(/[^/]*$/, "")}play`);
  socket.binaryType = "arraybuffer";
  socket.onclose = (event) => showStatus(`The connection is closed. ${event.reason} Reload the page to continue.`, { stays: true });
  socket.onmessage = (event) => (typeof event.data === "string" ? handleJson(JSON.parse(event.data)) : handleBytes(event.data));
}

function handleJson(message) {
  if (message.kind === "token") {
    const token = new URLSearchParams(location.hash.slice(1)).get("token"); // after the #: no request contains it
    socket.send(JSON.stringify({ do: "enter", token }));
  } else if (message.kind === "world") {
    world = message;
    const screen = $("screen");
    screen.width = world.width;
    screen.height = world.height;
    world.names.forEach(addAction);
    listKeys(world.names);
    listStarts(world.starts);
    fitScreen();
    $("world").textContent = world.checkpoint;
    send({ do: "start", number: world.opening });
    $("idle").textContent = world.settling_steps === null ? "plays on by itself" : "waits";
    showRate(world.frames_per_second);
    fitSketch(world.width / world.height);
    $("policy").hidden = $("policy").disabled = !world.has_policy;
    showStatus("");
  } else if (message.kind === "replay") {
    replayed = message.actions; // the first frame follows
  } else if (message.kind === "picture") {
    showStatus(message.message); // the first frame follows
  } else if (message.kind === "fit") {
    finishMessage();
  } else {
    showStatus(message.message, { isError: true });
    replayed = [];
    if ($("driver").value === "policy") $("driver").value = "you"; // the policy may have caused the error
    finishMessage();
  }
}

function showRate(rate) {
  const speed = $("speed");
  if (![...speed.options].some((option) => Number(option.value) === rate)) speed.add(new Option(rate), 0);
  speed.value = rate;
}

function handleBytes(data) {
  const view = new DataView(data);
  if (view.getUint8(0) === FRAME) {
    steps = view.getUint32(1, true);
    const now = performance.now();
    latencies = [...latencies.slice(-29), now - sentAt];
    frameTimes = [...frameTimes.slice(-29), now];
    showAction(view.getInt16(5, true));
    finishMessage(); // before drawing, so that the world generates the next frame meanwhile
    draw(new Uint8Array(data, HEADER));
  } else {
    finishMessage();
    download(new Uint8Array(data, 1));
  }
}

function requestStep() {
  if (world === null || isWaiting || queue.length > 0) return;
  if (replayed.length > 0) {
    send({ do: "step", action: replayed.shift() });
    return;
  }
  const now = performance.now();
  if (isPaused && !isSingleStep) {
    tapped.clear();
    rest("Paused");
    return;
  }
  if (now < nextStepTime) {
    clearTimeout(timer);
    timer = setTimeout(requestStep, nextStepTime - now);
    return;
  }
  const message = chooseMessage();
  if (message === null) {
    rest(matchMedia("(pointer: coarse)").matches ? "Hold a key below to play" : "Hold an arrow key to play");
    return;
  }
  showHint("");
  isSingleStep = false;
  const rate = Number($("speed").value); // 0: as fast as possible
  nextStepTime = rate ? Math.max(now - 50, nextStepTime) + 1000 / rate : now;
  send(message);
}

function chooseMessage() {
  if ($("driver").value === "policy") return { do: "drive" };
  if ($("driver").value === "random") return { do: "step", action: Math.floor(Math.random() * world.names.length) };
  const meanings = heldMeanings();
  for (const meaning of tapped) meanings.add(meaning);
  tapped.clear();
  const isIdle = ![...meanings].some(isMove);
  idleSteps = isIdle ? idleSteps + 1 : 0;
  if (isIdle && !isSingleStep && world.settling_steps !== null && idleSteps > world.settling_steps) return null;
  const action = chooseAction(meanings, world.names);
  return action === null ? null : { do: "step", action };
}

function rest(hint) {
  showHint(hint);
  showAction(null);
}

function showSpeed() {
  const recent = frameTimes.filter((time) => performance.now() - time < 2000);
  const rate = recent.length > 1 ? ((recent.length - 1) * 1000) / (recent[recent.length - 1] - recent[0]) : 0;
  const latency = latencies.length ? latencies.reduce((sum, each) => sum + each, 0) / latencies.length : 0;
  const detail = document.createElement("span"); // which a narrow screen has no room for
  detail.textContent = `, ${latency.toFixed(0)} ms per frame`;
  $("rate").replaceChildren(`frame ${steps}, ${rate.toFixed(0)} frames/s`, detail);
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

function openSide(isOpen) {
  document.body.classList.toggle("side-open", isOpen);
  $("side-toggle").setAttribute("aria-expanded", String(isOpen));
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
  $("side-toggle").onclick = () => openSide(!document.body.classList.contains("side-open"));
  $("keys-open").onclick = () => $("keys-shown").showModal();
  $("keys-close").onclick = () => $("keys-shown").close();
  $("reset").onclick = resetKeys;
  $("fit").onchange = (event) => send({ do: "fit", as: event.target.value });
  listenToFiles();
  listenToKeyboard();
  listenToPointer();
}

function listenToFiles() {
  const open = (file) => (file?.name.toLowerCase().endsWith(".json") ? replayFile(file) : startOnPicture(file));
  for (const id of ["picture", "again"]) {
    $(id).onchange = (event) => {
      open(event.target.files[0]);
      event.target.value = ""; // so that the same file can be chosen again
    };
  }
  const drag = (event, isOver) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", isOver);
  };
  document.addEventListener("dragover", (event) => drag(event, true));
  document.addEventListener("dragleave", (event) => drag(event, false));
  document.addEventListener("drop", (event) => {
    drag(event, false);
    open(event.dataTransfer.files[0]);
  });
}

function listenToKeyboard() {
  document.addEventListener("keydown", (event) => {
    if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (changeKey(key)) {
      event.preventDefault();
      return;
    }
    if ($("keys-shown").open) return;
    const onButton = event.target instanceof HTMLButtonElement && [" ", "enter"].includes(key);
    if (key in keys && !onButton) event.preventDefault();
    if (!event.repeat && !onButton) {
      held.add(key);
      if (key in keys) tapped.add(keys[key]);
      showHeld();
      if (keys[key] in COMMANDS) COMMANDS[keys[key]]();
    }
    requestStep();
  });
  document.addEventListener("keyup", (event) => {
    held.delete(event.key.toLowerCase());
    showHeld();
  });
  window.addEventListener("blur", () => {
    held.clear();
    pressed.clear();
    showHeld();
  });
}

// After a click or a touch, the keyboard belongs to the game again; who moves by keyboard keeps the focus.
function listenToPointer() {
  let isPointer = false;
  document.addEventListener("pointerdown", () => (isPointer = true), true);
  document.addEventListener("keydown", () => (isPointer = false), true);
  const leave = (event) => isPointer && event.target.closest("button, select, #strip") && $("screen").focus({ preventScroll: true });
  document.addEventListener("click", (event) => event.target.tagName !== "SELECT" && leave(event));
  document.addEventListener("change", leave);
}

listen();
preparePad();
prepareSketch(startOnPicture);
new ResizeObserver(fitScreen).observe($("stage"));
connect();
setInterval(showSpeed, 250);
