// Draws the curves of one machine with plotly.js, which the gateway serves itself.
"use strict";

const asset = document.body.dataset.assetPage;
const words = JSON.parse(document.getElementById("chart-texts").textContent);
let spanS = 3600;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function traces(curves) {
  const out = [];
  for (const curve of curves) {
    const x = curve.t_ms.map((t) => new Date(t));
    if (curve.name === "@limit") {
      out.push({ x, y: curve.value, name: words.limit, mode: "lines", line: { color: colour("--high"), width: 2, dash: "dash", shape: "hv" }, hovertemplate: "%{y:.4~g}" });
      continue;
    }
    if (curve.low.length === x.length && x.length) {
      out.push({ x, y: curve.low, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false });
      out.push({ x, y: curve.high, mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: `${colour("--fill")}44`, hoverinfo: "skip", showlegend: false });
    }
    const name = curve.name === "@score" ? words.score : curve.name;
    out.push({ x, y: curve.value, name, mode: "lines", connectgaps: false, line: { color: colour("--text"), width: 1.8 }, hovertemplate: `%{y:.4~g} ${curve.unit.replaceAll("%", "%25").replaceAll("<", "")}` });
  }
  return out;
}

// The newest hour of a gateway that started two minutes ago is two minutes.
function begin(curves, now) {
  const first = Math.min(...curves.map((c) => c.t_ms[0] ?? now));
  return Math.max(now - spanS * 1000, Math.min(first, now - 60000));
}

function layout(tall, curves) {
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false, tickfont: { color: colour("--muted"), size: 12 }, fixedrange: true };
  const now = Date.now();
  const start = begin(curves, now);
  return {
    margin: { l: 46, r: 10, t: 6, b: 38 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: colour("--text") },
    showlegend: tall,
    legend: { orientation: "h", y: 1.12, x: 0 },
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line") },
    xaxis: { ...axis, type: "date", range: [new Date(start), new Date(now)], nticks: tall ? 8 : 4 },
    yaxis: { ...axis, rangemode: tall ? "tozero" : "normal", nticks: tall ? 7 : 4 },
  };
}

async function draw() {
  const charts = [...document.querySelectorAll("[data-chart]")];
  const names = [...new Set(charts.flatMap((el) => el.dataset.chart.startsWith("@") ? el.dataset.chart.split(",") : [el.dataset.chart]))];
  const query = new URLSearchParams({ asset, span_s: spanS, points: 400 });
  for (const name of names) query.append("signal", name);
  let curves;
  try {
    const answer = await fetch(`/api/v1/series?${query}`);
    if (!answer.ok) return;
    curves = new Map((await answer.json()).map((c) => [c.name, c]));
  } catch {
    return; // No contact; the page says so already, and the next round tries again.
  }
  for (const el of charts) {
    const wanted = el.dataset.chart.startsWith("@") ? el.dataset.chart.split(",") : [el.dataset.chart];
    const mine = wanted.map((n) => curves.get(n)).filter((c) => c && c.t_ms.length);
    if (!mine.length) {
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
    await window.Plotly.react(el, traces(mine), layout(el.classList.contains("tall"), mine), { displayModeBar: false, responsive: true });
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
