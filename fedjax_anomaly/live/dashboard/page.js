// The page of a live detector: asks once a second for what has changed, and draws it. All text is set as text, never as HTML.

const POLL_MS = 1000;
const IDLE_MS = 15_000;
const KEPT_POINTS = 720;
const NARROW = matchMedia("(max-width: 760px)");
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];
const MARKS = { critical: "▲", warning: "◆" };
const $ = (id) => document.getElementById(id);

let state = null;
let slots = []; // Numbers of the streams that have a chart, each in a place of its own.
let pinned = new Set();
let opened = null; // Number of the stream whose details are shown.
let cursor = null; // Place of the pointer in the large chart, as a share of its width.
let lastNews = -Infinity;
const series = new Map(); // The points of the streams that are shown, by number.

// Text and numbers

const count = (n) => Math.round(n).toLocaleString("en");
const short = (x) => (x === null ? "–" : x === 0 ? "0" : x < 0.001 ? x.toExponential(1) : String(Number(x.toPrecision(3))));
const ratio = (item) => (item.threshold ? item.score / item.threshold : null);
const times = (r) => (r === null ? "–" : `${r < 0.01 ? "<0.01" : r < 10 ? r.toFixed(2) : r < 100 ? r.toFixed(1) : count(r)}×`);

function duration(seconds) {
  const [amount, unit] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([size]) => seconds >= size) ?? [1, "s"];
  const rest = { d: [3600, "h"], h: [60, "min"] }[unit];
  const less = rest && Math.floor((seconds % amount) / rest[0]);
  return `${Math.floor(seconds / amount)} ${unit}${less ? ` ${less} ${rest[1]}` : ""}`;
}

// Times of a simulation count from its first day; events without times are counted.
const elapsed = (time) => Math.abs(time) < 1e8;
const iso = (time) => new Date(Math.min(Math.max(time, -8e12), 8e12) * 1000).toISOString();
const unit = (time) => (!state.timed ? "event" : elapsed(time) ? "since day 0" : "UTC");
const day = (time) => (elapsed(time) ? `day ${Math.floor(time / 86400)}` : iso(time).slice(0, 10));
const clock = (time, seconds = false) => (state.timed ? iso(time).slice(11, seconds ? 19 : 16) : `#${count(time)}`);
const moment = (time, seconds) => (state.timed ? `${day(time)} ${clock(time, seconds)}` : clock(time));

// Elements

function make(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Makes the children of `parent` those of `items`, by key; nodes that stay are kept, with their focus. */
function arrange(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  items.forEach((item, i) => {
    const key = String(keyOf(item));
    const node = known.get(key) ?? create(item);
    known.delete(key);
    node.dataset.key = key;
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
    update(node, item);
  });
  for (const node of known.values()) node.remove();
}

function setSeverity(node, severity, otherwise = "") {
  setText(node, severity ? `${MARKS[severity]} ${severity}` : otherwise);
  node.className = `severity ${severity ?? ""}`;
}

// Charts

function ticksOf(from, to, most) {
  const step = STEPS.find((s) => (to - from) / s <= most) ?? 10 ** Math.ceil(Math.log10((to - from) / most));
  const first = Math.ceil(from / step) * step;
  return { step, ticks: Array.from({ length: Math.floor((to - first) / step) + 1 }, (_, i) => first + i * step) };
}

/** The whole decades that hold all scores and thresholds, so that the axis rarely moves. */
function decadesOf(points) {
  const values = [...points.scores, ...points.thresholds].filter((x) => x > 0);
  const [low, high] = values.reduce(([a, b], x) => [Math.min(a, x), Math.max(b, x)], [Infinity, -Infinity]);
  if (!values.length) return [-1, 0];
  return [Math.floor(Math.log10(low)), Math.max(Math.floor(Math.log10(high)) + 1, Math.floor(Math.log10(low)) + 2)];
}

function draw(svg, points) {
  const [width, height] = [svg.clientWidth, svg.clientHeight];
  if (!width || !points?.times.length) return;
  const [left, right, top, bottom] = [42, width - 6, 18, height - 18];
  const n = points.times.length;
  const [from, to] = [points.times[0], Math.max(points.times[n - 1], points.times[0] + 1)];
  const [low, high] = decadesOf(points);
  const x = (time) => left + ((Math.min(Math.max(time, from), to) - from) / (to - from)) * (right - left);
  const y = (score) => bottom - ((Math.max(Math.log10(Math.max(score, 1e-30)), low) - low) / (high - low)) * (bottom - top);
  const path = (values) =>
    values.map((v, i) => (v === null ? "" : `${i && values[i - 1] !== null ? "L" : "M"}${x(points.times[i]).toFixed(1)} ${y(v).toFixed(1)}`)).join("");
  const text = (string, px, py, anchor) => make("svg:text", { x: px, y: py, "text-anchor": anchor }, string);
  const parts = [];
  const every = Math.ceil((high - low) / (height > 200 ? 8 : 4));
  for (let decade = high; decade >= low; decade -= every) {
    const py = Math.round(y(10 ** decade)) + 0.5;
    parts.push(make("svg:path", { class: "grid", d: `M${left} ${py}H${right}` }));
    parts.push(text(Math.abs(decade) > 3 ? `1e${decade}` : String(Number((10 ** decade).toPrecision(1))), left - 6, py + 4, "end"));
  }
  const { step, ticks } = ticksOf(from, to, width / 90);
  for (const tick of ticks.filter((t) => x(t) > left + 16 && x(t) < right - 20)) {
    parts.push(make("svg:path", { class: "grid", d: `M${x(tick).toFixed(1)} ${bottom}v4` }));
    parts.push(text(step >= 86400 ? day(tick) : clock(tick, step < 60), x(tick).toFixed(1), height - 3, "middle"));
  }
  parts.push(text("score", 0, 11, "start"), text(state.timed ? `${day(to)}, ${elapsed(to) ? "h:min" : "UTC"}` : "event number", right, 11, "end"));
  const last = points.incidents.length - 1;
  points.incidents.forEach((incident, i) => {
    const end = incident.ended || i < last ? incident.end : to;
    if (end < from) return;
    const begin = x(incident.start);
    parts.push(make("svg:rect", { class: `incident ${incident.severity}`, x: begin.toFixed(1), y: top, width: Math.max(x(end) - begin, 3).toFixed(1), height: bottom - top }));
  });
  parts.push(make("svg:path", { class: "threshold", d: path(points.thresholds) }), make("svg:path", { class: "score", d: path(points.scores) }));
  const alarms = points.marks.map((mark, i) => (mark && points.scores[i] !== null ? `M${x(points.times[i]).toFixed(1)} ${y(points.scores[i]).toFixed(1)}h0` : ""));
  parts.push(make("svg:path", { class: "alarms", d: alarms.join("") }));
  if (svg === $("large") && cursor !== null) {
    const at = from + Math.min(Math.max((cursor * width - left) / (right - left), 0), 1) * (to - from);
    const i = points.times.reduce((best, time, j) => (Math.abs(time - at) < Math.abs(points.times[best] - at) ? j : best), 0);
    parts.push(make("svg:path", { class: "cursor", d: `M${x(points.times[i]).toFixed(1)} ${top}V${bottom}` }));
    setText($("readout"), `${moment(points.times[i], true)}: score ${short(points.scores[i])}, threshold ${short(points.thresholds[i])}${points.marks[i] ? ", alarm" : ""}`);
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", `Scores of ${points.name}: last ${short(points.score)}, threshold ${short(points.threshold)}, ${points.marks.filter(Boolean).length} alarms shown`);
  svg.replaceChildren(...parts);
}

// Parts of the page

function showTotals() {
  const { totals, counts } = state;
  const rejected = Object.entries(counts.rejected);
  const entries = [
    ["Streams", count(totals.streams)],
    ["Open incidents", count(totals.open), `${count(totals.incidents)} since start`, totals.open && "critical"],
    ["Events scored", count(counts.scored)],
    ["Events per second", count(totals.rate)],
    ["Alarms", count(counts.alarms)],
    ["Rejected", count(rejected.reduce((sum, [, n]) => sum + n, 0)), rejected.map(([reason, n]) => `${count(n)} ${reason}`).join(", ")],
    ["Drift reports", count(totals.drifts)],
    ["Model age", duration(Math.max(0, Date.now() / 1000 - Date.parse(state.trained_at) / 1000))],
  ];
  facts($("totals"), entries);
}

function facts(list, entries) {
  const create = ([name]) => make("div", {}, make("dt", {}, name), make("dd", {}, make("span"), make("small")));
  arrange(list, entries, ([name]) => name, create, (node, [, value, note = "", kind = ""]) => {
    const dd = node.lastChild;
    dd.className = kind || "";
    setText(dd.firstChild, value);
    setText(dd.lastChild, note);
    dd.lastChild.title = note;
  });
}

function showCards() {
  const known = slots.map((number) => series.get(number)).filter(Boolean);
  const create = (points) => {
    const caption = make("span", { class: "caption" }, make("span", { class: "name" }, points.name), make("span"), make("span", { class: "value" }));
    const button = make("button", { class: "card", "aria-haspopup": "dialog" }, caption, make("svg:svg", { class: "chart", role: "img" }));
    button.addEventListener("click", () => open(points.number));
    return make("li", {}, button);
  };
  arrange($("cards"), known, (points) => points.number, create, (node, points) => {
    const [caption, svg] = node.firstChild.children;
    node.firstChild.className = `card ${points.severity ?? ""}`;
    setSeverity(caption.children[1], points.severity);
    setText(caption.lastChild, `${short(points.score)} · ${times(ratio(points))} threshold`);
    draw(svg, points);
  });
}

function showStreams() {
  const { matching, totals, streams } = state;
  setText($("matching"), matching === totals.streams && streams.length === matching ? "" : `${count(streams.length)} of ${count(matching)} shown`);
  const create = ({ number, name }) => {
    const gauge = make("svg:svg", { class: "gauge", viewBox: "0 0 52 10", "aria-hidden": "true" }, make("svg:rect", { class: "track", y: 3, width: 52, height: 4, rx: 2 }));
    gauge.append(make("svg:rect", { class: "fill", y: 3, height: 4, rx: 2 }), make("svg:path", { class: "tick", d: "M32 0v10" }));
    const row = make("button", { class: "row", "aria-haspopup": "dialog", title: name }, make("span"), make("span", { class: "name" }, name), gauge, make("span", { class: "value" }));
    row.addEventListener("click", () => open(number));
    const pin = make("button", { class: "pin", "aria-label": `Keep a chart of ${name}`, title: "Keep its chart" });
    pin.addEventListener("click", () => {
      if (!pinned.delete(number)) pinned.add(number);
      poll();
    });
    return make("li", {}, row, pin);
  };
  arrange($("list"), streams, ({ number }) => number, create, (node, item) => {
    const [mark, , gauge, value] = node.firstChild.children;
    setText(mark, MARKS[item.severity] ?? "·");
    mark.className = `mark severity ${item.severity ?? ""}`;
    mark.setAttribute("aria-label", item.severity ?? "no incident");
    const r = ratio(item);
    setText(value, times(r));
    // Three decades below the threshold, at 32, and two above.
    gauge.children[1].setAttribute("width", r > 0 ? Math.min(Math.max(32 + (Math.log10(r) * 32) / 3, 2), 52) : 0);
    gauge.classList.toggle("over", r > 1);
    const isPinned = pinned.has(item.number);
    node.lastChild.setAttribute("aria-pressed", isPinned);
    setText(node.lastChild, isPinned ? "★" : "☆");
  });
}

function shares(incident) {
  const bar = (share) => make("svg:svg", { class: "bar", viewBox: "0 0 64 8", "aria-hidden": "true" }, make("svg:rect", { width: 64 * share, height: 8 }));
  const rows = incident.shares.map(([name, share]) => make("li", {}, make("b", {}, `${Math.round(100 * share)} %`), bar(share), make("span", { title: name }, name)));
  return make("ul", { class: "shares" }, ...rows);
}

const peakOf = ({ peak, threshold }) => `${short(peak)} (${times(threshold ? peak / threshold : null)})`;
const lengthOf = ({ start, end }) => (state.timed ? duration(end - start) : count(end - start));

function showIncidents() {
  const { incidents, totals } = state;
  setText($("counted"), incidents.length < totals.incidents ? `${count(incidents.length)} of ${count(totals.incidents)} shown` : "");
  $("calm").hidden = incidents.length > 0;
  document.querySelector("#incidents table").hidden = !incidents.length;
  if (incidents.length) for (const node of document.querySelectorAll("thead .unit")) setText(node, state.timed && !elapsed(incidents[0].start) ? "UTC" : "");
  const create = (incident) => {
    const link = make("button", { class: "link", "aria-haspopup": "dialog" }, incident.stream);
    link.addEventListener("click", () => open(incident.number));
    const cells = [["", make("span")], ["", link], ["Start"], ["End"], ["Duration"], ["Peak score"], ["Alarms"], ["Driven by"]];
    return make("tr", {}, ...cells.map(([label, ...inside]) => make("td", label ? { "data-label": label } : {}, ...inside)));
  };
  arrange($("rows"), incidents, ({ number, start }) => `${number}@${start}`, create, (row, incident) => {
    const [severity, , start, end, length, peak, alarms, driven] = row.children;
    setSeverity(severity.firstChild, incident.severity);
    setText(start, moment(incident.start));
    setText(end, incident.ended ? moment(incident.end) : "ongoing");
    [length, peak, alarms].forEach((cell) => (cell.className = "number"));
    setText(length, lengthOf(incident));
    setText(peak, peakOf(incident));
    setText(alarms, count(incident.alarms));
    const drivers = JSON.stringify(incident.shares);
    if (driven.dataset.drivers !== drivers) driven.replaceChildren(shares(incident));
    driven.dataset.drivers = drivers;
  });
}

function open(number) {
  [opened, cursor] = [number, null];
  setText($("readout"), "Point at the chart, or use the arrow keys, for single values.");
  $("detail").showModal();
  showDetail();
  poll();
}

function showDetail() {
  const points = series.get(opened);
  if (!points) return;
  setText($("detail-name"), points.name);
  facts($("facts"), [
    ["Now", points.severity ? `${MARKS[points.severity]} ${points.severity}` : "no incident", "", points.severity ?? ""],
    ["Score", short(points.score)],
    ["Threshold", short(points.threshold)],
    ["Score ÷ threshold", times(ratio(points))],
    ["Events", count(points.events)],
    ["Alarms", count(points.alarms)],
    ["Drift reports", count(points.drifts)],
    ["Last event", points.time === null ? "–" : moment(points.time)],
  ]);
  draw($("large"), points);
  const told = [...points.incidents].reverse();
  const summary = (i) => ` ${moment(i.start)} – ${i.ended ? moment(i.end) : "ongoing"} · ${lengthOf(i)} · peak ${peakOf(i)} · ${count(i.alarms)} ${i.alarms === 1 ? "alarm" : "alarms"}`;
  const entries = told.map((incident) => {
    const severity = make("span");
    setSeverity(severity, incident.severity);
    return make("li", {}, severity, summary(incident), shares(incident));
  });
  $("own").replaceChildren(...(entries.length ? entries : [make("li", { class: "note" }, "None among the last ones.")]));
}

// News

/** Streams that stay keep their place; new ones take the places of those that go. */
function placeCharts() {
  const room = NARROW.matches ? 3 : 6;
  const wanted = [...new Set([...pinned, ...state.severest])].slice(0, Math.max(room, Math.min(pinned.size, 20)));
  const fresh = wanted.filter((number) => !slots.includes(number));
  slots = slots.map((number) => (wanted.includes(number) ? number : fresh.shift())).filter((number) => number !== undefined);
  slots.push(...fresh);
}

function merge(chart) {
  const known = series.get(chart.number);
  const goesOn = known && known.first + known.times.length === chart.first;
  const points = { ...chart };
  if (goesOn) {
    for (const name of ["times", "scores", "thresholds", "marks"]) points[name] = [...known[name], ...chart[name]].slice(-KEPT_POINTS);
    points.first = known.first + known.times.length + chart.times.length - points.times.length;
  }
  series.set(chart.number, points);
}

function query() {
  const wanted = new Set(opened === null ? slots : [opened, ...slots]);
  for (const number of series.keys()) if (!wanted.has(number)) series.delete(number);
  const known = (number) => (series.has(number) ? series.get(number).first + series.get(number).times.length : 0);
  const show = [...wanted].map((number) => ["show", `${number}:${known(number)}`]);
  return new URLSearchParams([["search", $("search").value], ["order", $("order").value], ...show]);
}

function render() {
  const events = state.totals.streams > 0;
  setText($("run"), state.run);
  document.title = `${state.totals.open ? `(${state.totals.open}) ` : ""}${state.run} · live detector`;
  const kind = !events ? "waiting" : performance.now() - lastNews < IDLE_MS ? "live" : "idle";
  $("status").dataset.state = kind;
  setText($("status"), { waiting: "Waiting for events", live: "Live", idle: "No new events" }[kind]);
  $("lost").hidden = true;
  $("empty").hidden = events;
  for (const id of ["charts", "streams", "incidents"]) $(id).hidden = !events;
  showTotals();
  showCards();
  showStreams();
  showIncidents();
  if (opened !== null) showDetail();
}

async function take() {
  const response = await fetch(`state?${query()}`, { signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(`status ${response.status}`);
  const news = await response.json();
  if (state?.process !== news.process) {
    series.clear();
    [slots, pinned, lastNews] = [[], new Set(), -Infinity];
    if (state) news.charts = []; // They are of numbers of another process.
    $("detail").close();
  }
  if (news.totals.rate > 0 || news.counts.scored !== (state?.counts.scored ?? news.counts.scored)) lastNews = performance.now();
  state = news;
  news.charts.forEach(merge);
  const before = slots.join();
  placeCharts();
  render();
  return slots.join() !== before;
}

let timer = null;
let underWay = false;
let again = false;

async function poll() {
  again = underWay;
  if (underWay) return;
  clearTimeout(timer);
  underWay = true;
  let soon = false;
  try {
    soon = await take();
  } catch (error) {
    $("status").dataset.state = "lost";
    setText($("status"), "Connection lost");
    setText($("lost"), `The detector does not answer.${state ? " What is shown is its last state." : ""} Trying again every second.`);
    $("lost").hidden = false;
  }
  underWay = false;
  timer = setTimeout(poll, soon || again ? 0 : POLL_MS);
}

function moveCursor(event) {
  const keys = { ArrowLeft: -0.01, ArrowRight: 0.01 };
  if (event.type === "keydown" && !(event.key in keys)) return;
  const box = $("large").getBoundingClientRect();
  cursor = event.type === "keydown" ? Math.min(Math.max((cursor ?? 1) + keys[event.key], 0), 1) : (event.clientX - box.left) / box.width;
  draw($("large"), series.get(opened));
}

for (const kind of ["pointermove", "pointerdown", "keydown"]) $("large").addEventListener(kind, moveCursor);
$("search").addEventListener("input", poll);
$("order").addEventListener("change", poll);
$("streams").querySelector("form").addEventListener("submit", (event) => event.preventDefault());
$("detail").addEventListener("close", () => (opened = null));
$("detail").addEventListener("click", (event) => event.target === $("detail") && $("detail").close());
addEventListener("resize", () => state && render());
document.addEventListener("visibilitychange", () => !document.hidden && poll());
poll();
