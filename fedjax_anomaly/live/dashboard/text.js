// Numbers and times as text.

export const count = (n) => Math.round(n).toLocaleString("en");

/** Three digits. */
export function short(x) {
  if (x === null) return "–";
  return x !== 0 && Math.abs(x) < 0.001 ? x.toExponential(1) : String(Number(x.toPrecision(3)));
}

export const ratioOf = ({ score, threshold }) => (score !== null && threshold > 0 ? score / threshold : null);

export function multiple(ratio) {
  if (ratio === null) return "–";
  if (ratio < 0.01) return "<0.01×";
  return `${ratio < 10 ? ratio.toFixed(2) : ratio < 100 ? ratio.toFixed(1) : count(ratio)}×`;
}

export function plural(n, word) {
  return `${count(n)} ${word}${n === 1 ? "" : "s"}`;
}

function duration(seconds) {
  const units = [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const i = units.findIndex(([size]) => seconds >= size);
  if (i < 0) return "0 s";
  const [size, unit] = units[i];
  const [less, lesser] = i < 2 ? units[i + 1] : [Infinity, ""];
  const rest = Math.floor((seconds % size) / less);
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${lesser}` : ""}`;
}

/** A duration in its largest unit. */
export const coarse = (seconds) => duration(seconds).split(" ").slice(0, 2).join(" ");

/** Times of events: of the calendar, of a simulation that counts from its first day, or places in the order of arrival. */
export class Clock {
  constructor(timed) {
    this.timed = timed;
  }

  unit(time) {
    if (!this.timed) return "event number";
    return `${this.day(time)}, ${isElapsed(time) ? "h:min" : "UTC"}`;
  }

  day(time) {
    return isElapsed(time) ? `day ${Math.floor(time / 86400)}` : iso(time).slice(0, 10);
  }

  time(time, withSeconds = false) {
    return this.timed ? iso(time).slice(11, withSeconds ? 19 : 16) : `#${count(time)}`;
  }

  moment(time, withSeconds = false) {
    return this.timed ? `${this.day(time)} ${this.time(time, withSeconds)}` : this.time(time);
  }

  between(start, end) {
    if (start === end) return "one event";
    return this.timed ? duration(end - start) : plural(end - start + 1, "event");
  }
}

const LAST_SECOND = 253402300799;

const isElapsed = (time) => Math.abs(time) < 1e8;
const iso = (time) => new Date(1000 * Math.min(Math.max(time, -LAST_SECOND / 10), LAST_SECOND)).toISOString();
