"""The fixed parts of the page that shows gamma over time: markup, style and script.

Names of regions and commits reach the page as text only (`textContent`, or Vega's own escaping).
"""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header><h1>{title}</h1><p id="now" aria-live="polite"></p></header>
<nav id="controls" aria-label="frames">
<button id="prev" type="button" aria-label="previous frame" title="left arrow">&#8592;</button>
<button id="play" type="button" title="space">Play</button>
<button id="next" type="button" aria-label="next frame" title="right arrow">&#8594;</button>
<input id="frame" type="range" min="0" step="1" aria-label="frame">
<span id="count"></span>
</nav>
<div id="body">
<section id="chart"></section>
<aside>
<h2>Hottest regions</h2><ol id="hottest"></ol>
<dl id="facts"></dl>
<p id="scale"><label>Colour scale <select id="exponent">
<option value="1">linear</option><option value="0.5">square root</option>
<option value="0.25">fourth root</option>
</select></label></p>
<p id="key"><span class="swatch">&#215;</span> decoupled: events, but no activity</p>
</aside>
</div>
</main>
<script>{bundle}</script>
<script type="application/json" id="payload">{payload}</script>
<script type="application/json" id="spec">{spec}</script>
<script>{script}</script>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; --ink: #24292f; --quiet: #6b7280; --line: #e5e7eb; --edge: #d1d5db;
  --paper: #ffffff; --panel: #f3f4f6; --off: #c4c8ce; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --quiet: #9aa3af; --line: #2c3138; --edge: #444c56;
    --paper: #14171b; --panel: #2b3139; --off: #565e68; }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 14px/1.5 system-ui, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 28px 24px; }
h1 { font-size: 20px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 13px; margin: 0 0 6px; }
#now { margin: 2px 0 16px; color: var(--quiet); font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
nav { display: flex; gap: 6px; align-items: center; border-block: 1px solid var(--line); padding: 10px 0; }
nav input { flex: 1; min-width: 80px; margin: 0 8px; accent-color: #21918c; }
button { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--edge); border-radius: 6px;
  padding: 3px 10px; cursor: pointer; }
#play { min-width: 64px; }
button:hover:enabled { background: var(--panel); }
button:disabled { color: var(--off); cursor: default; }
#count { color: var(--quiet); font-variant-numeric: tabular-nums; min-width: 70px; text-align: right; }
#body { display: flex; flex-wrap: wrap; gap: 24px; margin-top: 14px; }
#chart { flex: 0 1 auto; overflow-x: auto; min-width: 0; }
aside { flex: 1 1 200px; max-width: 360px; padding-top: 16px; font-size: 13px; min-width: 0; }
ol { list-style: none; margin: 0 0 18px; padding: 0; font-variant-numeric: tabular-nums; }
li, dl div { display: flex; justify-content: space-between; gap: 12px; border-bottom: 1px solid var(--line);
  padding: 3px 0; }
li span:first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
dl { margin: 0 0 18px; font-variant-numeric: tabular-nums; } dt { color: var(--quiet); } dd { margin: 0; }
select { font: inherit; } #scale, #key { color: var(--quiet); margin: 0 0 8px; }
.swatch { display: inline-block; width: 16px; line-height: 16px; text-align: center;
  background: #a9adb3; color: var(--paper); }
[hidden] { display: none !important; }
#vg-tooltip-element { font: 12px/1.5 system-ui, sans-serif; max-width: 420px; }
"""

SCRIPT = r"""
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("payload").textContent);
  const spec = JSON.parse(document.getElementById("spec").textContent);
  const at = (id) => document.getElementById(id);
  const last = data.frames.length - 1;
  const state = new Map();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let decoded = -1, shown = -1, view = null, timer = null;

  function apply(frame) {
    for (const index of frame.gone) state.delete(index);
    frame.set.forEach(([listed, values], column) => {
      const indexes = Array.isArray(listed) ? listed : frame.set[listed][0];
      const name = data.columns[column];
      indexes.forEach((index, k) => {
        let row = state.get(index);
        if (!row) {
          row = { region: data.regions[index] };
          const place = data.places[index];
          if (place) [row.x0, row.y0, row.x1, row.y1] = place;
          state.set(index, row);
        }
        row[name] = name === "lastCommit" ? data.commits[values[k]]
          : name === "decoupled" ? Boolean(values[k]) : values[k];
      });
    });
  }

  function rowsOf(frame) {
    if (frame < decoded) { state.clear(); decoded = -1; }
    while (decoded < frame) apply(data.frames[++decoded]);
    return Array.from(state.values());
  }

  function number(value) {
    if (value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e7)) {
      const digits = Math.abs(value) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 4 };
      return value.toLocaleString("en", digits).replaceAll(",", " ");
    }
    return value.toPrecision(4);
  }

  function pair(parent, kind, left, right) {
    const line = document.createElement(kind[0]);
    [left, right].forEach((text, k) => {
      const part = document.createElement(kind[k + 1]);
      part.textContent = text;
      part.title = text;
      line.append(part);
    });
    parent.append(line);
  }

  function aside(frame, rows) {
    const hottest = rows.filter((row) => row.weight > 0)
      .sort((a, b) => b.weight - a.weight || (a.region < b.region ? -1 : 1)).slice(0, 8);
    at("hottest").replaceChildren();
    for (const row of hottest) pair(at("hottest"), ["li", "span", "span"], row.region, number(row.weight));
    at("facts").replaceChildren();
    const fact = (name, value) => pair(at("facts"), ["div", "dt", "dd"], name, value);
    fact("regions", number(rows.length));
    fact("total weight", number(frame.total));
    fact("decoupled", number(rows.filter((row) => row.decoupled).length));
    const off = rows.filter((row) => row.x0 === undefined).length;
    if (data.map && off) fact("not on the map", number(off));
    if (!data.map && rows.length > data.barsMax) fact("shown, heaviest first", number(data.barsMax));
  }

  function show(index) {
    if (last < 0) return;
    shown = Math.max(0, Math.min(last, index));
    const frame = data.frames[shown], rows = rowsOf(shown);
    const words = ["tick " + frame.tick].concat(frame.label ? [frame.label] : []);
    at("now").textContent = words.join(" · ") + (rows.length ? "" : " · " + data.empty);
    at("count").textContent = (shown + 1) + " of " + (last + 1);
    at("frame").value = String(shown);
    at("frame").setAttribute("aria-valuetext", words.join(", "));
    at("prev").disabled = shown === 0;
    at("next").disabled = shown === last;
    aside(frame, rows);
    const stale = at("vg-tooltip-element");
    if (stale) stale.classList.remove("visible");
    if (view) {
      const drawn = rows.filter((row) => !data.map || row.x0 !== undefined);
      view.data("cells", drawn.map((row) => Object.assign({}, row))).runAsync();
    }
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    at("play").textContent = "Play";
  }

  function play() {
    if (timer) return pause();
    if (shown === last) show(0);
    at("play").textContent = "Pause";
    timer = setInterval(() => (shown === last ? pause() : show(shown + 1)), 600);
  }

  function step(by) { pause(); show(shown + by); }

  // The picture takes the colours of the page, which are light or dark as the reader has it.
  function themed() {
    const style = getComputedStyle(document.documentElement);
    const named = { "#24292f": "--ink", "#6b7280": "--quiet", "#e5e7eb": "--line", "#d1d5db": "--edge",
      "#ffffff": "--paper", "#f3f4f6": "--panel" };
    const quoted = (colour) => JSON.stringify(colour.trim());
    return JSON.parse(Object.entries(named).reduce((text, [colour, name]) =>
      text.replaceAll(quoted(colour), quoted(style.getPropertyValue(name))), JSON.stringify(spec)));
  }

  function draw() {
    if (!at("scale").hidden) {
      spec.params.find((param) => param.name === "exponent").value = Number(at("exponent").value);
    }
    const options = { actions: false, renderer: "canvas", tooltip: { theme: dark.matches ? "dark" : "light" } };
    window.vegaEmbed("#chart", themed(), options).then((result) => {
      if (view) view.finalize();
      view = result.view;
      show(shown);
    });
  }

  at("prev").onclick = () => step(-1);
  at("next").onclick = () => step(1);
  at("play").onclick = play;
  at("frame").max = String(Math.max(last, 0));
  at("frame").oninput = (event) => { pause(); show(Number(event.target.value)); };
  at("exponent").onchange = (event) => view && view.signal("exponent", Number(event.target.value)).runAsync();
  document.addEventListener("keydown", (event) => {
    const tag = event.target.tagName;
    if (tag === "INPUT" || tag === "SELECT" || (tag === "BUTTON" && event.key === " ")) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "Home") step(-last);
    else if (event.key === "End") step(last);
    else if (event.key === " ") { event.preventDefault(); play(); }
  });
  at("controls").hidden = last < 1;
  at("scale").hidden = at("key").hidden = !data.map;

  if (!spec) {
    at("body").hidden = true;
    show(last);
    if (last < 0) at("now").textContent = data.empty;
    return;
  }
  const chosen = spec.params.find((param) => param.name === "exponent").value;
  const option = Array.from(at("exponent").options).find((entry) => Number(entry.value) === chosen);
  if (option) option.selected = true; else at("scale").hidden = true;
  show(last);
  draw();
  dark.addEventListener("change", draw);
})();
"""
