// Attainment and goodput of each objective class over time.

import { element, percent, rate, seconds, setAttribute, setText } from "./format.js";

const SPAN_S = 600;
const SUM_S = 30;
const W = 400, H = 132, LEFT = 34, RIGHT = 4, TOP = 8, MIDDLE = 74, LOW = 84, BOTTOM = 118;
const SVG = "http://www.w3.org/2000/svg";

export class Classes {
  constructor(parent) {
    this.parent = parent;
    this.cards = new Map();
    this.empty = element("p", { class: "empty", text: "No request has ended yet." });
    parent.append(this.empty);
  }

  show(state) {
    const names = Object.keys(state.classes);
    this.empty.hidden = names.length > 0;
    for (const name of names) {
      if (!this.cards.has(name)) {
        this.cards.set(name, new Card(name));
        this.parent.append(this.cards.get(name).root);
      }
      this.cards.get(name).show(state.classes[name], points(state, name), state.now_s);
    }
  }
}

// One point a bin: what ended in the half minute up to its end.
export function points(state, name) {
  const bins = state.bins.map(([t, counts]) => [t, ...(counts[name] ?? [0, 0])]);
  const each = Math.round(SUM_S / state.bin_s);
  const found = [];
  let met = 0, missed = 0;
  bins.forEach(([t, a, b], i) => {
    met += a;
    missed += b;
    if (i >= each) {
      met -= bins[i - each][1];
      missed -= bins[i - each][2];
    }
    const span = Math.min(i + 1, each) * state.bin_s;
    found.push({ t, attained: met + missed ? met / (met + missed) : null, met: met / span, missed: missed / span });
  });
  return found;
}

class Card {
  constructor(name) {
    this.name = name;
    this.head = element("span");
    this.figures = {};
    const list = element("dl");
    for (const [key, title] of [["goodput", "Goodput"], ["ttft", "TTFT p50 / p90"], ["tpot", "TPOT p50 / p90"]]) {
      this.figures[key] = element("dd");
      list.append(element("div", {}, element("dt", { text: title }), this.figures[key]));
    }
    this.svg = chart();
    this.root = element("article", { class: "class" },
      element("h3", {}, element("span", { text: name }), this.head), this.svg.root, list);
  }

  show(figures, line, now) {
    const last = line.at(-1);
    setText(this.head, last && last.attained !== null ? `${percent(last.attained, 1)} met` : "nothing ended lately");
    setText(this.figures.goodput, last ? `${rate(last.met)}/s` : "–");
    for (const field of ["ttft", "tpot"]) {
      const of = figures[`${field}_s`] ?? {};
      setText(this.figures[field], `${seconds(of.p50)} / ${seconds(of.p90)}`);
    }
    this.svg.draw(line, now);
    const known = line.filter((p) => p.attained !== null).map((p) => p.attained);
    const range = known.length ? `attainment from ${percent(Math.min(...known))} to ${percent(Math.max(...known))}, now ${percent(last.attained)}` : "nothing ended";
    setAttribute(this.svg.root, "aria-label", `${this.name}, last ten minutes: ${range}`);
  }
}

// Attainment above, what met and missed its objective a second below.
function chart() {
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
  for (const [share, y] of [["100 %", TOP], ["50", (TOP + MIDDLE) / 2], ["0", MIDDLE]]) {
    root.append(svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y, y2: y }), text(share, LEFT - 4, y + 3, "end"));
  }
  const most = text("", LEFT - 4, LOW + 6, "end");
  root.append(svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: BOTTOM, y2: BOTTOM }), most,
    text("10 min ago", LEFT, H - 2, "start"), text("now", W - RIGHT, H - 2, "end"));
  const met = svg("path", { class: "met" }), missed = svg("path", { class: "missed" }), attained = svg("path", { class: "attained" });
  root.append(met, missed, attained);
  const draw = (line, now) => {
    const x = (t) => W - RIGHT - ((now - t) / SPAN_S) * (W - LEFT - RIGHT);
    const shown = line.filter((p) => now - p.t <= SPAN_S);
    const high = Math.max(...shown.map((p) => p.met + p.missed), 0.1);
    const y = (value) => BOTTOM - (value / high) * (BOTTOM - LOW);
    setText(most, `${rate(high)}/s`);
    setAttribute(attained, "d", path(shown, (p) => p.attained === null ? null : [x(p.t), MIDDLE - p.attained * (MIDDLE - TOP)]));
    setAttribute(met, "d", area(shown, x, (p) => y(p.met), () => BOTTOM));
    setAttribute(missed, "d", area(shown, x, (p) => y(p.met + p.missed), (p) => y(p.met)));
  };
  return { root, draw };
}

function path(line, place) {
  let pen = "M", d = "";
  for (const point of line) {
    const at = place(point);
    if (at === null) { pen = "M"; continue; }
    d += `${pen}${at[0].toFixed(1)} ${at[1].toFixed(1)}`;
    pen = "L";
  }
  return d;
}

function area(line, x, top, bottom) {
  if (!line.length) return "";
  const there = line.map((p) => `${x(p.t).toFixed(1)} ${top(p).toFixed(1)}`);
  const back = [...line].reverse().map((p) => `${x(p.t).toFixed(1)} ${bottom(p).toFixed(1)}`);
  return `M${there.join("L")}L${back.join("L")}Z`;
}

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function text(words, x, y, anchor) {
  const made = svg("text", { x, y, "text-anchor": anchor });
  made.textContent = words;
  return made;
}
