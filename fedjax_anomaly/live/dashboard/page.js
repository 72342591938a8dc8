// The page of a live detector: asks once a second for what has changed, and shows it.
// Names come from whoever sends events: they are set as text, never as HTML.

import { draw } from "./chart.js";
import { MARKS, arrange, gauge, make, setGauge, setSeverity, setText, sharesOf, showFacts } from "./elements.js";
import { Clock, coarse, count, multiple, plural, ratioOf, short } from "./text.js";

const POLL_MS = 1000;
const TIMEOUT_MS = 5000;
const SILENT_SECONDS = 15;
const KEPT_POINTS = 720;
const FEW_INCIDENTS = 10;
const NARROW = matchMedia("(max-width: 760px)");

const $ = (id) => document.getElementById(id);

let state = null; // The last answer.
let clock = new Clock(true);
let slots = []; // The streams that have a chart, by number, each in a place of its own.
let pinned = new Set();
let opened = null; // The stream whose details are shown.
let cursor = null; // Where the large chart shows a single point.
let allIncidents = false;
const series = new Map(); // Number -> what is known of a stream that is shown.

/** A button that shows the details of a stream. */
function opener(number, kind, ...children) {
  const button = make("button", { class: kind, "aria-haspopup": "dialog" }, ...children);
  button.addEventListener("click", () => open(number));
  return button;
}

// Parts of the page

function showTotals() {
  const { totals, counts } = state;
  const rejected = Object.entries(counts.rejected).sort(([, a], [, b]) => b - a);
  const reasons = rejected.slice(0, 2).map(([reason, n]) => `${count(n)} ${reason.replaceAll("_", " ")}`);
  if (rejected.length > 2) reasons.push("others");
  const age = (Date.now() - Date.parse(state.trained_at)) / 1000;
  showFacts($("totals"), [
    ["Streams", count(totals.streams)],
    ["Incidents", `${count(totals.open)} open`, `${count(totals.incidents)} in all`, totals.open ? "critical" : ""],
    ["Alarms", count(counts.alarms)],
    ["Events", count(counts.scored), "scored"],
    ["Events / s", count(totals.rate)],
    ["Rejected", count(rejected.reduce((sum, [, n]) => sum + n, 0)), reasons.join(", ")],
    ["Drift reports", count(totals.drifts)],
    ["Model age", coarse(Math.max(0, age))],
  ]);
}

function showCards() {
  const create = ({ number, name }) => {
    const caption = make("span", { class: "caption" }, make("span", { class: "name" }, name));
    caption.append(make("span"), make("span", { class: "value" }));
    return make("li", {}, opener(number, "card", caption, make("svg:svg", { class: "chart", role: "img" })));
  };
  const update = (node, points) => {
    const [caption, svg] = node.firstChild.children;
    const [, severity, value] = caption.children;
    node.firstChild.className = `card ${points.severity ?? ""}`;
    setSeverity(severity, points.severity);
    setText(value, `${multiple(ratioOf(points))} threshold`);
    draw(svg, points, clock);
  };
  const known = slots.map((number) => series.get(number)).filter(Boolean);
  arrange($("cards"), known, ({ number }) => number, create, update);
}

function pinOf(number, name) {
  const pin = make("button", { class: "pin", "aria-label": `Keep a chart of ${name}`, title: "Keep its chart" });
  pin.addEventListener("click", () => {
    if (!pinned.delete(number)) pinned.add(number);
    poll();
  });
  return pin;
}

function showStreams() {
  const { matching, totals, streams } = state;
  const isWhole = streams.length === totals.streams;
  setText($("matching"), isWhole ? "" : `${count(streams.length)} of ${count(matching)} shown`);
  $("nothing").hidden = matching > 0;
  const create = ({ number, name }) => {
    const label = make("span", { class: "name", title: name }, name);
    const row = opener(number, "row", make("span"), label, gauge(), make("span", { class: "value" }));
    return make("li", {}, row, pinOf(number, name));
  };
  const update = (node, stream) => {
    const [mark, , svg, value] = node.firstChild.children;
    setText(mark, MARKS[stream.severity] ?? "");
    mark.className = `mark ${stream.severity ?? ""}`;
    mark.title = stream.severity ?? "";
    setGauge(svg, ratioOf(stream));
    setText(value, multiple(ratioOf(stream)));
    const isPinned = pinned.has(stream.number);
    node.lastChild.setAttribute("aria-pressed", isPinned);
    setText(node.lastChild, isPinned ? "★" : "☆");
  };
  arrange($("list"), streams, ({ number }) => number, create, update);
}

const peakOf = ({ peak, threshold }) => `${short(peak)} (${multiple(ratioOf({ score: peak, threshold }))})`;
const endOf = (incident) => (incident.ended ? clock.moment(incident.end) : "ongoing");

function showIncidents() {
  const { incidents, totals } = state;
  const shown = allIncidents ? incidents : incidents.slice(0, FEW_INCIDENTS);
  setText($("counted"), shown.length < totals.incidents ? `${shown.length} of ${count(totals.incidents)} shown` : "");
  setText($("more"), `Show ${incidents.length - shown.length} more`);
  $("more").hidden = shown.length === incidents.length;
  $("table").hidden = !incidents.length;
  $("calm").hidden = incidents.length > 0;
  const create = ({ number, stream }) => {
    const row = make("tr", {}, make("td", {}, make("span")), make("td", {}, opener(number, "link", stream)));
    for (const label of ["Start", "End"]) row.append(make("td", { "data-label": label }));
    for (const label of ["Duration", "Peak score", "Alarms"]) {
      row.append(make("td", { "data-label": label, class: "number" }));
    }
    row.append(make("td", { "data-label": "Driven by" }));
    return row;
  };
  const update = (row, incident) => {
    const [severity, , ...cells] = row.children;
    const { start, end, alarms } = incident;
    setSeverity(severity.firstChild, incident.severity);
    const texts = [clock.moment(start), endOf(incident), clock.between(start, end), peakOf(incident), count(alarms)];
    texts.forEach((text, i) => setText(cells[i], text));
    const drivers = JSON.stringify(incident.shares);
    if (row.dataset.drivers !== drivers) row.lastChild.replaceChildren(sharesOf(incident));
    row.dataset.drivers = drivers;
  };
  arrange($("rows"), shown, ({ number, start }) => `${number}@${start}`, create, update);
}

// Details of one stream

function open(number) {
  [opened, cursor] = [number, null];
  setText($("readout"), "Point at the chart, or use the arrow keys on it, for single scores.");
  $("detail").showModal();
  showDetail();
  poll();
}

function showDetail() {
  const points = series.get(opened);
  if (!points) return;
  setText($("detail-name"), points.name);
  showFacts($("facts"), [
    [
      "Now",
      points.severity ? `${MARKS[points.severity]} ${points.severity}` : "no incident",
      "",
      points.severity ?? "",
    ],
    ["Score", short(points.score)],
    ["Threshold", short(points.threshold)],
    ["Score ÷ threshold", multiple(ratioOf(points))],
    ["Events", count(points.events)],
    ["Alarms", count(points.alarms)],
    ["Drift reports", count(points.drifts)],
    ["Last event", points.time === null ? "–" : clock.moment(points.time)],
  ]);
  showLarge();
  const create = () => make("li", {}, make("p", {}, make("span"), make("span")), make("div"));
  const update = (node, incident) => {
    const [severity, summary] = node.firstChild.children;
    const { start, end, alarms } = incident;
    setSeverity(severity, incident.severity);
    const length = `${clock.moment(start)} – ${endOf(incident)} (${clock.between(start, end)})`;
    setText(summary, ` ${length} · peak ${peakOf(incident)} · ${plural(alarms, "alarm")}`);
    node.lastChild.replaceChildren(sharesOf(incident));
  };
  arrange($("own"), points.incidents.toReversed(), ({ start }) => start, create, update);
  $("none").hidden = points.incidents.length > 0;
}

function showLarge() {
  const points = series.get(opened);
  const i = points ? draw($("large"), points, clock, cursor) : null;
  if (i === null) return;
  const [score, threshold] = [short(points.scores[i]), short(points.thresholds[i])];
  const alarm = points.marks[i] ? ", alarm" : "";
  setText($("readout"), `${clock.moment(points.times[i], true)}: score ${score}, threshold ${threshold}${alarm}`);
}

function moveCursor(event) {
  if (event.type === "keydown") {
    const step = { ArrowLeft: -0.01, ArrowRight: 0.01 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    cursor = Math.min(Math.max((cursor ?? 1) + step, 0), 1);
  } else {
    const box = $("large").getBoundingClientRect();
    cursor = (event.clientX - box.left) / box.width;
  }
  showLarge();
}

// News

/** Streams that stay keep their place; new ones take the places of those that go. */
function placeCharts() {
  const room = Math.max(NARROW.matches ? 3 : 6, Math.min(pinned.size, 20));
  const wanted = [...new Set([...pinned, ...state.severest])].slice(0, room);
  const fresh = wanted.filter((number) => !slots.includes(number));
  const kept = slots.map((number) => (wanted.includes(number) ? number : fresh.shift()));
  slots = [...kept.filter((number) => number !== undefined), ...fresh];
}

const knownOf = ({ first, times }) => first + times.length;

/** Adds new points to those that are known, unless some between them are missing. */
function merge(chart) {
  const known = series.get(chart.number);
  if (known && knownOf(known) === chart.first) {
    for (const name of ["times", "scores", "thresholds", "marks"]) {
      chart[name] = [...known[name], ...chart[name]].slice(-KEPT_POINTS);
    }
    chart.first = chart.events - chart.times.length;
  }
  series.set(chart.number, chart);
}

function question() {
  const wanted = new Set(opened === null ? slots : [opened, ...slots]);
  for (const number of series.keys()) if (!wanted.has(number)) series.delete(number);
  const show = [...wanted].map((number) => {
    const known = series.get(number);
    return ["show", `${number}:${known ? knownOf(known) : 0}`];
  });
  return new URLSearchParams([["search", $("search").value], ["order", $("order").value], ...show]);
}

function take(answer) {
  if (state?.process !== answer.process) {
    // Streams are numbered by each process anew, so that what was asked for, and came, belongs to others.
    if (state) answer.charts = [];
    for (const id of ["cards", "list", "rows"]) $(id).replaceChildren();
    series.clear();
    [slots, pinned] = [[], new Set()];
    $("detail").close();
  }
  state = answer;
  clock = new Clock(state.timed);
  answer.charts.forEach(merge);
  placeCharts();
}

function show() {
  const { totals, run } = state;
  const hasStreams = totals.streams > 0;
  setText($("run"), run);
  document.title = `${totals.open ? `(${totals.open}) ` : ""}${run} · live detector`;
  const silence = totals.silent_seconds;
  if (silence === null) showStatus("waiting", "Waiting for events");
  else if (silence < SILENT_SECONDS) showStatus("live", "Live");
  else showStatus("idle", silence < 60 ? "No new events" : `No events for ${coarse(silence)}`);
  $("lost").hidden = true;
  $("empty").hidden = hasStreams;
  for (const id of ["charts", "streams", "incidents"]) $(id).hidden = !hasStreams;
  showTotals();
  if (!hasStreams) return;
  showCards();
  showStreams();
  showIncidents();
  if (opened !== null) showDetail();
}

function showStatus(kind, text) {
  $("status").dataset.state = kind;
  setText($("status"), text);
}

function showLost() {
  showStatus("lost", "Connection lost");
  const last = state ? "What is shown is its last state. " : "";
  setText($("lost"), `The detector does not answer. ${last}Trying again.`);
  $("lost").hidden = false;
}

async function ask() {
  try {
    const response = await fetch(`state?${question()}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

let timer = null;
let isAsking = false;
let isAskedAgain = false;

/** Asks now, and then once a second; a second call waits for the answer to the first. */
async function poll() {
  isAskedAgain = isAsking;
  if (isAsking) return;
  isAsking = true;
  clearTimeout(timer);
  const before = slots.join();
  const answer = await ask();
  isAsking = false;
  if (answer) take(answer);
  const isSoon = isAskedAgain || slots.join() !== before;
  if (!document.hidden) timer = setTimeout(poll, isSoon ? 0 : POLL_MS);
  if (answer) show();
  else showLost();
}

for (const kind of ["pointermove", "pointerdown", "keydown"]) $("large").addEventListener(kind, moveCursor);
$("search").addEventListener("input", poll);
$("order").addEventListener("change", poll);
$("search").form.addEventListener("submit", (event) => event.preventDefault());
$("more").addEventListener("click", () => {
  allIncidents = true;
  showIncidents();
});
$("detail").addEventListener("close", () => (opened = null));
$("detail").addEventListener("click", (event) => event.target === $("detail") && $("detail").close());
addEventListener("resize", () => state && show());
document.addEventListener("visibilitychange", () => !document.hidden && poll());
poll();
