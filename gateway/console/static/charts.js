// Draws the curves of one machine with plotly.js, which the gateway serves itself.
"use strict";

const asset = document.body.dataset.assetPage;
const words = JSON.parse(document.getElementById("chart-texts").textContent);
const thin = "\u202f";
const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" }).formatToParts(new Date()).find((part) => part.type === "timeZoneName").value;
let spanS = 3600;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function traces(curve) {
  const x = curve.t_ms.map((t) => new Date(t));
  const out = [];
  if (curve.low.length === x.length && x.length) {
    out.push({ x, y: curve.low, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false });
    // A life that may be longer than any that is told apart has no upper end.
    const high = curve.high.map((v, i) => v ?? curve.value[i]);
    out.push({ x, y: high, mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: `${colour("--fill")}44`, hoverinfo: "skip", showlegend: false });
  }
  const unit = curve.name === "@severity" ? words.of_limit : curve.unit;
  // A point between two gaps has no line: it is a dot.
  const alone = curve.value.map((v, i) => (v !== null && (curve.value[i - 1] ?? curve.value[i + 1] ?? null) === null ? 5 : 0));
  out.push({ x, y: curve.value, name: "", mode: "lines+markers", marker: { size: alone, color: colour("--text") }, connectgaps: false, line: { color: colour("--text"), width: 1.8 }, hovertemplate: `%{y:.4~g} ${unit.replaceAll("%", "%25").replaceAll("<", "")}` });
  return out;
}

// The newest hour of a gateway that started two minutes ago is two minutes.
function begin(curve, now) {
  return Math.max(now - spanS * 1000, Math.min(curve.t_ms[0] ?? now, now - 60000));
}

// Times of a day without its date; ISO dates where the span has several, for they need no language.
function stamp(spanMs) {
  if (spanMs < 600000) return "%H:%M:%S";
  return spanMs < 129600000 ? "%H:%M" : "%m-%d";
}

// A line across the chart at its limit, with its name; coloured while the curve is beyond it.
function limitLine(curve, y, name, below) {
  const last = curve.value.findLast((v) => v !== null);
  const shade = colour((below ? last <= y : last >= y) ? "--high" : "--muted");
  const at = below ? "top" : "bottom";
  return {
    y,
    shape: { type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: shade, width: 1.6, dash: "dash" } },
    note: { xref: "paper", x: 0, y, xanchor: "left", yanchor: at, text: name, showarrow: false, font: { color: shade, size: 13 } },
  };
}

function limitsOf(el, curve) {
  if (curve.name === "@severity") return [limitLine(curve, 1, words.limit, false)];
  return JSON.parse(el.dataset.limits ?? "[]").map(([level, y]) => limitLine(curve, y, words.levels[level], level.startsWith("low")));
}

function rangeOf(curve, limits) {
  if (curve.name.startsWith("@failure:")) return { range: [0, 105] };
  const values = [...curve.value, ...curve.low, ...curve.high, ...limits].filter((v) => v !== null);
  // A machine that is well draws its line low, with the limit in sight above it.
  if (curve.name === "@severity") return { range: [0, 1.08 * Math.max(1.4, ...values)] };
  if (!limits.length) return { rangemode: curve.name.startsWith("@") ? "tozero" : "normal" };
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = 0.15 * (high - low || 1);
  return { range: [low - room, high + room] };
}

function layout(el, curve) {
  const tall = el.classList.contains("tall");
  const limits = limitsOf(el, curve);
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false, tickfont: { color: colour("--muted"), size: 12 }, fixedrange: true };
  const now = Date.now();
  const start = begin(curve, now);
  return {
    margin: { l: 52, r: 12, t: 8, b: tall ? 48 : 28 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: colour("--text") },
    separators: `.${thin}`,
    showlegend: false,
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line") },
    shapes: limits.map((line) => line.shape),
    annotations: limits.map((line) => line.note),
    xaxis: { ...axis, type: "date", range: [new Date(start), new Date(now)], nticks: tall ? 8 : 4, tickformat: stamp(now - start), hoverformat: "%Y-%m-%d %H:%M:%S", title: { text: tall ? zone : "", font: { color: colour("--muted"), size: 12 }, standoff: 6 } },
    yaxis: { ...axis, automargin: true, nticks: tall ? 7 : 4, ...rangeOf(curve, limits.map((line) => line.y)) },
  };
}

async function draw() {
  const charts = [...document.querySelectorAll("[data-chart]")];
  const query = new URLSearchParams({ asset, span_s: spanS, points: 400 });
  for (const el of charts) query.append("signal", el.dataset.chart);
  let curves;
  try {
    const answer = await fetch(`/api/v1/series?${query}`);
    if (!answer.ok) return;
    curves = new Map((await answer.json()).map((c) => [c.name, c]));
  } catch {
    return; // No contact; the page says so already, and the next round tries again.
  }
  for (const el of charts) {
    const curve = curves.get(el.dataset.chart);
    if (!curve?.t_ms.length) {
      if (!el.querySelector(".nothing")) {
        window.Plotly.purge(el);
        const p = document.createElement("p");
        p.className = "nothing";
        p.textContent = words.no_chart;
        el.replaceChildren(p);
      }
      continue;
    }
    el.querySelector(".nothing")?.remove();
    await window.Plotly.react(el, traces(curve), layout(el, curve), { displayModeBar: false, responsive: true });
  }
  document.body.dataset.drawn = "1";
}

for (const button of document.querySelectorAll("[data-span]"))
  button.addEventListener("click", () => {
    spanS = Number(button.dataset.span);
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    draw();
  });
addEventListener("themechange", draw);
draw();
setInterval(() => { if (!document.hidden) draw(); }, 5000);
