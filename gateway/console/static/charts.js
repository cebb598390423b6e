// Draws the curves of one machine with plotly.js, which the gateway serves itself.
"use strict";

const asset = document.body.dataset.assetPage;
const words = JSON.parse(document.getElementById("chart-texts").textContent);
const thin = "\u202f";
let spanS = 3600;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function traces(curve) {
  const x = curve.t_ms.map((t) => new Date(t));
  const out = [];
  if (curve.low.length === x.length && x.length) {
    out.push({ x, y: curve.low, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false });
    out.push({ x, y: curve.high, mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: `${colour("--fill")}44`, hoverinfo: "skip", showlegend: false });
  }
  const unit = curve.name === "@severity" ? words.of_limit : curve.unit;
  out.push({ x, y: curve.value, name: "", mode: "lines", connectgaps: false, line: { color: colour("--text"), width: 1.8 }, hovertemplate: `%{y:.4~g} ${unit.replaceAll("%", "%25").replaceAll("<", "")}` });
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

function layout(tall, curve) {
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false, tickfont: { color: colour("--muted"), size: 12 }, fixedrange: true };
  const now = Date.now();
  const start = begin(curve, now);
  const judged = curve.name === "@severity";
  const whole = judged || curve.name.startsWith("@");
  const values = curve.value.filter((v) => v !== null);
  const limit = colour("--high");
  return {
    margin: { l: 52, r: 12, t: 8, b: 28 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: colour("--text") },
    separators: `.${thin}`,
    showlegend: false,
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line") },
    shapes: judged ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: limit, width: 2, dash: "dash" } }] : [],
    annotations: judged ? [{ xref: "paper", x: 0, y: 1, xanchor: "left", yanchor: "bottom", text: words.limit, showarrow: false, font: { color: limit, size: 13 } }] : [],
    xaxis: { ...axis, type: "date", range: [new Date(start), new Date(now)], nticks: tall ? 8 : 4, tickformat: stamp(now - start), hoverformat: "%Y-%m-%d %H:%M:%S" },
    // A machine that is well draws its line low, with the limit in sight above it.
    yaxis: { ...axis, automargin: true, nticks: tall ? 7 : 4, ...(judged ? { range: [0, 1.08 * Math.max(1.4, ...values)] } : { rangemode: whole ? "tozero" : "normal" }) },
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
    await window.Plotly.react(el, traces(curve), layout(el.classList.contains("tall"), curve), { displayModeBar: false, responsive: true });
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
