// The chart of a stream: scores on a logarithmic axis over time, its threshold, alarms and incidents, as SVG.

import { make } from "./elements.js";
import { short } from "./text.js";

const MARGIN = { left: 42, right: 6, top: 22, bottom: 18 };
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;
const STEPS = [
  ...[1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR),
  ...[1, 2, 7, 14, 28].map((n) => n * DAY),
];

/**
 * Draws a stream's points.
 *
 * @param svg where to.
 * @param points what the detector told of the stream, its last points joined.
 * @param clock of its times.
 * @param cursor where to show a single point, as a share of the width; null shows none.
 * @returns the place of that point, or null.
 */
export function draw(svg, points, clock, cursor = null) {
  const [width, height] = [svg.clientWidth, svg.clientHeight];
  if (!width || !points.times.length) return null;
  const scale = scaleOf(points, width, height);
  const chosen = cursor === null ? null : nearest(points.times, scale.timeAt(cursor * width));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", description(points));
  svg.replaceChildren(
    ...scoreAxis(scale),
    ...timeAxis(scale, clock),
    ...incidents(points.incidents, scale),
    line("threshold", points.times, points.thresholds, scale),
    line("score", points.times, points.scores, scale),
    alarms(points, scale),
    ...(chosen === null
      ? []
      : [make("svg:path", { class: "cursor", d: `M${scale.x(points.times[chosen])} ${scale.top}V${scale.bottom}` })]),
  );
  return chosen;
}

function scaleOf(points, width, height) {
  const [left, right] = [MARGIN.left, width - MARGIN.right];
  const [top, bottom] = [MARGIN.top, height - MARGIN.bottom];
  const from = points.times[0];
  const to = Math.max(points.times.at(-1), from + 1);
  const [low, high] = decades(points);
  const share = (value, a, b) => Math.min(Math.max((value - a) / (b - a), 0), 1);
  return {
    ...{ left, right, top, bottom, from, to, low, high },
    x: (time) => (left + share(time, from, to) * (right - left)).toFixed(1),
    y: (score) => (bottom - share(score > 0 ? Math.log10(score) : -Infinity, low, high) * (bottom - top)).toFixed(1),
    timeAt: (x) => from + share(x, left, right) * (to - from),
  };
}

/** Whole decades that hold all scores and thresholds, so that the axis rarely changes. */
function decades({ scores, thresholds }) {
  const logs = [...scores, ...thresholds].filter((x) => x > 0).map(Math.log10);
  if (!logs.length) return [-1, 1];
  const low = Math.floor(Math.min(...logs));
  return [low, Math.max(Math.ceil(Math.max(...logs) + 0.05), low + 2)];
}

function nearest(times, time) {
  return times.reduce((best, t, i) => (Math.abs(t - time) < Math.abs(times[best] - time) ? i : best), 0);
}

function text(string, x, y, anchor) {
  return make("svg:text", { x, y, "text-anchor": anchor }, string);
}

function scoreAxis({ left, right, top, bottom, low, high, y }) {
  const every = Math.ceil((high - low) / Math.floor((bottom - top) / 26));
  const parts = [text("score", 0, 11, "start"), make("svg:path", { class: "grid", d: `M${left} ${bottom}H${right}` })];
  for (let decade = high; decade >= low; decade -= every) {
    const at = Number(y(10 ** decade));
    const label = Math.abs(decade) > 3 ? `1e${decade}` : short(10 ** decade);
    parts.push(make("svg:path", { class: "grid", d: `M${left} ${at}H${right}` }), text(label, left - 6, at + 4, "end"));
  }
  return parts;
}

function timeAxis({ left, right, bottom, from, to, x }, clock) {
  const most = (right - left) / 80;
  const step = STEPS.find((s) => (to - from) / s <= most) ?? 10 ** Math.ceil(Math.log10((to - from) / most));
  const parts = [text(clock.unit(to), right, 11, "end")];
  for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
    if (x(tick) < left + 16 || x(tick) > right - 18) continue;
    const label = clock.timed && step >= DAY ? clock.day(tick) : clock.time(tick, step < MINUTE);
    parts.push(make("svg:path", { class: "grid", d: `M${x(tick)} ${bottom}v4` }));
    parts.push(text(label, x(tick), bottom + 15, "middle"));
  }
  return parts;
}

function incidents(all, { from, to, top, bottom, x }) {
  return all
    .map((incident) => ({ ...incident, end: incident.ended ? incident.end : to }))
    .filter(({ end }) => end >= from)
    .map(({ start, end, severity }) => {
      const width = Math.max(x(end) - x(start), 3).toFixed(1);
      return make("svg:rect", { class: `incident ${severity}`, x: x(start), y: top, width, height: bottom - top });
    });
}

/** Has gaps where a value is not finite. */
function line(name, times, values, { x, y }) {
  let d = "";
  values.forEach((value, i) => {
    if (value !== null) d += `${i > 0 && values[i - 1] !== null ? "L" : "M"}${x(times[i])} ${y(value)}`;
  });
  return make("svg:path", { class: name, d });
}

/** A dot is a line without length whose ends are round. */
function alarms({ times, scores, marks }, { x, y }) {
  const dots = times.map((time, i) => (marks[i] && scores[i] !== null ? `M${x(time)} ${y(scores[i])}h0` : ""));
  return make("svg:path", { class: "alarms", d: dots.join("") });
}

function description({ name, score, threshold, marks }) {
  const shown = marks.filter(Boolean).length;
  return `Scores of ${name}: last ${short(score)}, threshold ${short(threshold)}, ${shown} of ${marks.length} are alarms`;
}
