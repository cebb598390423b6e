// Shows the last bytes on a source's wire while somebody looks, and nothing else.
"use strict";

const wire = document.getElementById("dialog-wire");
const wireOut = wire.querySelector("[data-frames]");
let wireSource = "";
let wireTimer = 0;
let wireShown = "";

const wireUrl = () => `/api/v1/sources/${encodeURIComponent(wireSource)}/wire`;

function hexLines(hex) {
  const bytes = hex ? hex.split(" ").map((b) => parseInt(b, 16)) : [];
  const lines = [];
  for (let i = 0; i < bytes.length; i += 16) {
    const part = bytes.slice(i, i + 16);
    const text = part.map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : "·")).join("");
    lines.push(`${i.toString(16).padStart(4, "0")}  ${part.map((b) => b.toString(16).padStart(2, "0")).join(" ").padEnd(47)}  ${text}`);
  }
  return lines.join("\n");
}

function frameOf(frame) {
  const item = document.createElement("li");
  const head = document.createElement("p");
  const at = new Date(frame.t_ns / 1e6);
  const way = frame.sent ? wire.dataset.sent : wire.dataset.received;
  const cut = frame.size > 2048 ? wire.dataset.cut : "";
  head.textContent = [
    `${frame.sent ? "→" : "←"} ${way}`,
    `${today.format(at)}.${String(at.getMilliseconds()).padStart(3, "0")}`,
    wire.dataset.size.replace("{n}", frame.size),
    frame.note,
    cut,
  ].filter(Boolean).join(" · ");
  const bytes = document.createElement("pre");
  bytes.textContent = hexLines(frame.hex);
  item.append(head, bytes);
  return item;
}

function showWire(state) {
  const open = state.open_s > 0;
  wire.querySelector("[data-watch]").hidden = open;
  wire.querySelector("[data-leave]").hidden = !open && !state.frames.length;
  const status = open ? wire.dataset.open.replace("{s}", Math.ceil(state.open_s)) : wire.dataset.closed;
  wire.querySelector("[data-status]").textContent = status;
  const last = state.frames.at(-1);
  const print = `${wireSource} ${state.frames.length} ${state.frames_dropped} ${last?.t_ns}`;
  if (print === wireShown) return;
  wireShown = print;
  // The newest stands first: nobody has to scroll to see what comes.
  wireOut.replaceChildren(...state.frames.toReversed().map(frameOf));
}

async function readWire() {
  clearTimeout(wireTimer);
  if (!wire.open) return;
  const source = wireSource;
  const answer = await fetch(wireUrl()).catch(() => null);
  if (!answer?.ok || source !== wireSource) return;
  const state = await answer.json();
  showWire(state);
  if (wire.open && state.open_s > 0) wireTimer = setTimeout(readWire, 1000);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.wire) {
    wireSource = button.dataset.wire;
    wireShown = "";
    wireOut.replaceChildren();
    wire.querySelector("[data-name]").textContent = wireSource;
    wire.showModal();
    await readWire();
  } else if (button.dataset.watch) {
    if (await post(wireUrl(), { seconds: Number(button.dataset.watch) })) await readWire();
  } else if ("leave" in button.dataset) {
    await fetch(wireUrl(), { method: "DELETE", headers: { "X-CSRF-Token": csrf } });
    await readWire();
  }
});
wire.addEventListener("close", () => clearTimeout(wireTimer));
