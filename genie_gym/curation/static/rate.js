"use strict";

const $ = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("#ratings button")];
let present = null;
let number = 0; // a new address each time, so that the picture is not taken from the cache
let busy = false;

function show(state) {
  const hasClip = state.name !== null;
  present = state.name;
  $("name").textContent = hasClip ? state.name : "All clips are rated.";
  $("name").className = "";
  $("clip").hidden = !hasClip;
  if (hasClip) $("clip").src = `clip.png?${number++}`;
  $("counts").textContent = Object.entries(state.rated).map(([rating, count]) => `${rating}: ${count}`).join("   ");
  $("undo").disabled = !state.can_undo;
  for (const button of buttons) button.disabled = !hasClip;
}

async function ask(order) {
  if (busy) return;
  busy = true;
  try {
    const options = order && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(order) };
    const answer = await fetch(order ? "change" : "state", options || {});
    const state = await answer.json();
    if (!answer.ok) throw new Error(state.error);
    show(state);
  } catch (error) {
    $("name").textContent = error.message;
    $("name").className = "error";
  } finally {
    busy = false;
  }
}

const rate = (rating) => present !== null && ask({ rating, name: present });

for (const button of buttons) button.addEventListener("click", () => rate(Number(button.dataset.rating)));
$("undo").addEventListener("click", () => ask({ undo: true }));
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^[1-5]$/.test(event.key)) rate(Number(event.key));
  else if (event.key === "u" || event.key === "Backspace") ask({ undo: true });
});
ask(null);
