// Keeps the page in step with the gateway, and sends what people do. No library, no other host.
"use strict";

const texts = JSON.parse(document.getElementById("texts").textContent);
const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";
let clockOffsetMs = 0;

// Times: ages count up by themselves, moments are shown in local time.

const relative = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "always", style: "narrow" });
const now = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "auto", style: "narrow" }).format(0, "second");
const moment = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const today = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const onTheWall = new Intl.DateTimeFormat(undefined, { ...today.resolvedOptions(), timeZoneName: "short" });

function age(ms) {
  const seconds = Math.max(0, Math.round((Date.now() + clockOffsetMs - ms) / 1000));
  // Digits that change each second on every tile draw the eye to where nothing happens.
  if (seconds < 10) return now;
  if (seconds < 90) return relative.format(-seconds, "second");
  if (seconds < 5400) return relative.format(-Math.round(seconds / 60), "minute");
  if (seconds < 129600) return relative.format(-Math.round(seconds / 3600), "hour");
  return relative.format(-Math.round(seconds / 86400), "day");
}

function dress(root) {
  for (const el of root.querySelectorAll("time[data-when]")) {
    const at = new Date(Number(el.dataset.when));
    const now = new Date();
    const form = at.toDateString() === now.toDateString() ? today : at.getFullYear() === now.getFullYear() ? moment : day;
    el.textContent = form.format(at);
    el.title = at.toISOString();
  }
  for (const el of root.querySelectorAll("time[data-age]")) el.textContent = age(Number(el.dataset.age));
}

function tick() {
  for (const el of document.querySelectorAll("time[data-age]")) el.textContent = age(Number(el.dataset.age));
  const clock = document.getElementById("clock");
  if (clock) clock.textContent = onTheWall.format(new Date(Date.now() + clockOffsetMs));
}

// Live fragments.

function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html.trim();
  return template.content.firstElementChild;
}

function find(key) {
  return document.querySelector(`[data-key="${CSS.escape(key)}"]`);
}

function listFor(key) {
  for (const list of document.querySelectorAll("[data-list]")) if (key.startsWith(list.dataset.list)) return list;
  return null;
}

function put(key, html) {
  const fresh = parse(html);
  if (!fresh) return;
  const old = find(key);
  if (!old) {
    listFor(key)?.append(fresh);
  } else {
    // Who works with the keyboard keeps their place.
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && focused !== old ? [...old.querySelectorAll("a,button,summary")].indexOf(focused) : -1;
    const open = [...old.querySelectorAll("details[open]")].map((d) => d.dataset.keep);
    for (const d of fresh.querySelectorAll("details[data-keep]")) d.open = open.includes(d.dataset.keep);
    old.replaceWith(fresh);
    if (focused) (place >= 0 ? fresh.querySelectorAll("a,button,summary")[place] : fresh)?.focus();
  }
  dress(fresh);
}

function order(keys) {
  for (const list of document.querySelectorAll("[data-list]")) {
    let last = null;
    for (const key of keys) {
      if (!key.startsWith(list.dataset.list)) continue;
      const el = find(key);
      if (!el) continue;
      const next = last ? last.nextElementSibling : list.firstElementChild;
      if (next !== el) list.insertBefore(el, next);
      last = el;
    }
    if (!last) list.replaceChildren();
  }
}

function show(message) {
  for (const key of message.del) find(key)?.remove();
  for (const [key, html] of Object.entries(message.put)) put(key, html);
  if (message.order) order(message.order);
  applyFilter();
  beyond();
}

// Nobody scrolls a wall: who needs attention and finds no place on it is counted, the worst named.

function beyond() {
  const bar = document.getElementById("beyond");
  if (!bar) return;
  bar.hidden = true;
  const below = (edge) => [...document.querySelectorAll(".tile.needs")].filter((tile) => tile.getBoundingClientRect().bottom > edge + 1);
  if (!below(innerHeight).length) return;
  bar.hidden = false;
  const missed = below(bar.getBoundingClientRect().top);
  const severity = Math.max(...missed.map((tile) => Number.parseFloat(tile.querySelector(".tile-sevnum b")?.textContent ?? "0")));
  bar.textContent = bar.dataset.text.replace("{n}", missed.length).replace("{severity}", severity);
  const shape = missed.map((tile) => tile.querySelector(".shape")).filter(Boolean).sort((a, b) => a.textContent.trim() - b.textContent.trim())[0];
  if (shape) bar.prepend(shape.cloneNode(true));
}

// Whatever is pressed stays where it is until it has been clicked: what arrives meanwhile waits.

const PRESS_MS_MAX = 15000;
let waiting = null;
let pressTimer = 0;

function release() {
  const messages = waiting ?? [];
  waiting = null;
  messages.forEach(show);
}

function releaseIn(ms) {
  clearTimeout(pressTimer);
  pressTimer = setTimeout(release, ms);
}

addEventListener("pointerdown", () => { waiting ??= []; releaseIn(PRESS_MS_MAX); }, true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => releaseIn(50), true);
// Let go outside of the window: nobody says so.
addEventListener("pointermove", (event) => { if (waiting && !event.buttons) releaseIn(50); }, true);

let quietTimer = 0;

function contact() {
  clearTimeout(quietTimer);
  const offline = document.getElementById("offline");
  if (offline) offline.hidden = true;
  quietTimer = setTimeout(() => { if (offline) offline.hidden = false; }, 35000);
}

let stream = null;

function listen(topic) {
  stream?.close();
  stream = new EventSource(`/live?topic=${encodeURIComponent(topic)}`);
  stream.onopen = contact;
  stream.onmessage = (event) => {
    contact();
    const message = JSON.parse(event.data);
    clockOffsetMs = message.now - Date.now();
    if (waiting) waiting.push(message);
    else show(message);
  };
  stream.addEventListener("signed-out", () => {
    stream.close();
    stream = null;
    document.getElementById("dialog-signed-out").showModal();
  });
  stream.onerror = () => {
    const offline = document.getElementById("offline");
    setTimeout(() => { if (stream && stream.readyState !== EventSource.OPEN && offline) offline.hidden = false; }, 4000);
    if (stream?.readyState === EventSource.CLOSED) setTimeout(() => { if (stream) listen(topic); }, 5000);
  };
}

function hush() {
  stream?.close();
  stream = null;
  clearTimeout(quietTimer);
}

// Filters.

let filter = "";

function applyFilter() {
  const wanted = filter ? filter.split(" ") : null;
  for (const el of document.querySelectorAll(".tile, .alarms:not(.compact) > .alarm:not(.nested *)"))
    el.classList.toggle("filtered", wanted !== null && !el.dataset.state.split(" ").some((s) => wanted.includes(s)));
}

// What people do.

let toastTimer = 0;

function toast(text, ms = 5000) {
  const el = document.getElementById("toast");
  el.textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { el.textContent = ""; }, ms);
}

async function post(url, body) {
  let answer;
  try {
    answer = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf }, body: JSON.stringify(body) });
  } catch {
    toast(texts.offline);
    return null;
  }
  if (answer.ok) return answer.status === 204 ? {} : answer.json();
  if (answer.status === 401) {
    document.getElementById("dialog-signed-out").showModal();
    return null;
  }
  let reason = String(answer.status);
  try {
    const detail = (await answer.json()).detail;
    reason = typeof detail === "string" ? detail : texts.invalid.replace("{fields}", detail.map((d) => d.where.at(-1)).join(", "));
  } catch {
    // The status is all there is.
  }
  toast(texts.failed.replace("{reason}", reason), 9000);
  return null;
}

function target(row) {
  return { asset: row.dataset.asset, alarm: row.dataset.alarm, occurrence: Number(row.dataset.occurrence) };
}

async function command(verb, targets, more = {}) {
  const result = await post("/api/v1/alarms/command", { verb, targets, ...more });
  if (!result) return;
  const refused = result.refused.filter(Boolean);
  toast(refused.length ? texts.failed.replace("{reason}", refused.join("; ")) : texts.done);
}

async function acknowledge(rows) {
  const waiting = [...rows].filter((r) => r.dataset.state.endsWith("_unacked")).map(target);
  for (let i = 0; i < waiting.length; i += 200) await command("ack", waiting.slice(i, i + 200));
}

// What was noted, or null where it is not to be done.
function ask(text, noted = false) {
  const dialog = document.getElementById("dialog-ask");
  const label = dialog.querySelector("label");
  const note = label.querySelector("input");
  dialog.querySelector("[data-ask-text]").textContent = text;
  label.hidden = !noted;
  note.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "go" ? note.value : null), { once: true });
  });
}

let inDialog = null;

function openDialog(kind, row) {
  const dialog = document.getElementById(`dialog-${kind}`);
  inDialog = target(row);
  dialog.querySelector("[data-name]").textContent = `${row.dataset.asset || texts.gateway} · ${row.querySelector(".alarm-text").textContent || row.dataset.alarm}`;
  dialog.querySelector("input").value = "";
  dialog.showModal();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const row = button.closest(".alarm");
  const dialog = button.closest("dialog");
  const note = dialog?.querySelector("input[name=note]")?.value ?? "";
  if (button.dataset.verb) {
    if (button.dataset.ask && (await ask(`${button.dataset.ask}: ${row.dataset.asset} ${row.dataset.alarm}?`)) === null) return;
    button.disabled = true;
    await command(button.dataset.verb, [target(row)]);
    button.disabled = false;
  } else if (button.dataset.open) {
    openDialog(button.dataset.open, row);
  } else if (button.dataset.duration) {
    dialog.close();
    await command("shelve", [inDialog], { duration_s: Number(button.dataset.duration), note });
  } else if ("once" in button.dataset) {
    dialog.close();
    await command("shelve_once", [inDialog], { note });
  } else if (button.dataset.verdict) {
    dialog.close();
    await command("feedback", [inDialog], { verdict: button.dataset.verdict, note });
  } else if (button.id === "ack-all") {
    if ((await ask(`${button.textContent}?`)) === null) return;
    await acknowledge(document.querySelectorAll(".alarm[data-occurrence]:not(.filtered, .filtered *)"));
  } else if ("ackGroup" in button.dataset) {
    button.disabled = true;
    await acknowledge(row.querySelectorAll(".alarm[data-occurrence]"));
    button.disabled = false;
  } else if (button.dataset.post) {
    const noted = "note" in button.dataset;
    const said = button.dataset.ask ? await ask(button.dataset.ask, noted) : "";
    if (said === null) return;
    const body = JSON.parse(button.dataset.body);
    button.disabled = true;
    const done = await post(button.dataset.post, noted ? { ...body, note: said } : body);
    button.disabled = false;
    if (done) "stay" in button.dataset ? toast(texts.done) : location.reload();
  } else if ("filter" in button.dataset) {
    filter = button.dataset.filter;
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    applyFilter();
  } else if (button.id === "theme") {
    document.documentElement.dataset.theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
    dispatchEvent(new Event("themechange"));
  } else if (dialog && button.hasAttribute("value")) {
    dialog.close(button.value);
  }
});

function eventOf(form) {
  const { what, at, note } = Object.fromEntries(new FormData(form));
  const event = { asset: form.dataset.event, ...JSON.parse(what) };
  return { events: [at ? { ...event, at: new Date(at).toISOString() } : event], note };
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.form) return;
  event.preventDefault();
  const body = form.dataset.event ? eventOf(form) : Object.fromEntries(new FormData(form));
  if ("days" in body) body.days = Number(body.days);
  const done = await post(form.dataset.form, body);
  if (!done) return;
  if (form.dataset.secret) {
    const out = document.createElement("pre");
    out.textContent = `${form.dataset.secret}\n${done.secret}`;
    form.after(out);
    form.reset();
  } else location.reload();
});

dress(document);
tick();
beyond();
addEventListener("resize", beyond);
setInterval(tick, 1000);
// A browser keeps six connections to a gateway: a page that nobody looks at gives its own back.
if (document.body.dataset.live) {
  const follow = () => (document.hidden ? hush() : listen(document.body.dataset.live));
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", hush);
  addEventListener("pageshow", (event) => { if (event.persisted) follow(); });
  follow();
}
dispatchEvent(new Event("console"));
