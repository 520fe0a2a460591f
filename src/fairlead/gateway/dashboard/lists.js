// Tables: requests, hand-offs, tenants, instances; and the tiles above.

import { count, element, inOrder, named, percent, rate, seconds, setAttribute, setText, Table } from "./format.js";
import { points } from "./classes.js";

const WRONG = new Set(["missed", "rejected", "failed", "cancelled"]);

export class Requests {
  constructor(parent, open) {
    this.only = "latest";
    const link = (cell, entry) => {
      if (!cell.firstChild) {
        const button = element("button", { text: entry.key });
        button.addEventListener("click", () => open(entry.key, button));
        cell.append(button);
      }
    };
    const state = (cell, entry) => {
      setText(cell, entry.state);
      setAttribute(cell, "data-state", entry.state);
    };
    this.table = new Table(parent, [
      { title: "Request", fill: link },
      { title: "Class", value: (e) => e.objective },
      { title: "Tenant", value: (e) => e.tenant || "–", wideOnly: true },
      { title: "State", fill: state },
      { title: "Instance", value: (e) => e.instance || "–", wideOnly: true },
      { title: "Prompt", value: (e) => count(e.prompt_tokens), number: true, wideOnly: true },
      { title: "Output", value: (e) => count(e.output_tokens), number: true },
      { title: "TTFT", value: (e) => seconds(e.ttft_s), number: true },
      { title: "In all", value: (e) => seconds(e.e2e_s), number: true, wideOnly: true },
    ], "None lately.");
  }

  show(state) {
    const entries = Object.entries(state.requests).map(([key, row]) => ({ key, ...named(state.columns.requests, row) }));
    const shown = this.only === "missed" ? entries.filter((e) => WRONG.has(e.state)) : entries;
    shown.sort((a, b) => b.arrival_s - a.arrival_s);
    this.table.show(shown.slice(0, 60));
  }
}

export class Handoffs {
  constructor(parent) {
    this.table = new Table(parent, [
      { title: "Request", value: (e) => e.key },
      { title: "From", value: (e) => e.source },
      { title: "To", value: (e) => e.target },
      { title: "Why", value: (e) => e.why },
      { title: "Since", value: (e) => seconds(e.age), number: true },
    ], "None at this moment.");
  }

  show(state) {
    this.table.show(Object.entries(state.handoffs).map(([key, row]) => {
      const entry = named(state.columns.handoffs, row);
      return { key, ...entry, age: Math.max(state.now_s - entry.begun_s, 0) };
    }));
  }
}

export class Tenants {
  constructor(parent, section) {
    this.section = section;
    this.table = new Table(parent, [
      { title: "Tenant", value: (e) => e.key || "no tenant" },
      { title: "Requests", value: (e) => count(e.met + e.missed), number: true },
      { title: "Met", value: (e) => percent(e.met / Math.max(e.met + e.missed, 1), 1), number: true },
      { title: "Prompt", value: (e) => count(e.prompt_tokens), number: true },
      { title: "Output", value: (e) => count(e.output_tokens), number: true },
    ], "");
  }

  show(state) {
    const entries = Object.entries(state.tenants).map(([key, row]) => ({ key, ...row }));
    this.section.hidden = !entries.length;
    if (entries.length) this.table.show(entries.sort((a, b) => b.output_tokens - a.output_tokens));
  }
}

export class InstanceTable {
  constructor(parent, open) {
    this.parent = parent;
    const link = (cell, entry) => {
      if (!cell.firstChild) {
        const button = element("button", { text: entry.key });
        button.addEventListener("click", () => open(entry.key, button));
        cell.append(button);
      }
    };
    this.table = new Table(parent, [
      { title: "Instance", fill: link },
      { title: "Pool", value: (e) => e.pool, wideOnly: true },
      { title: "Role", value: (e) => e.role },
      { title: "Health", value: (e) => e.health },
      { title: "KV", value: (e) => percent(e.kv), number: true },
      { title: "Batch", value: (e) => `${e.batch} of ${e.most}`, number: true },
      { title: "Queue", value: (e) => count(e.queue), number: true },
      { title: "Slowdown", value: (e) => e.slowdown.toFixed(2), number: true, wideOnly: true },
    ], "No instance has come yet.");
  }

  show(state) {
    if (this.parent.hidden) return;
    const entries = Object.entries(state.instances).map(([key, row]) => ({ key, ...named(state.columns.instances, row) }));
    this.table.show(entries.sort((a, b) => inOrder(a.key, b.key)));
  }
}

export class Tiles {
  constructor(parent) {
    this.figures = {};
    for (const [key, title] of [["attained", "Objectives met"], ["goodput", "Goodput"], ["asked", "Requests"],
      ["tokens", "Output tokens"], ["instances", "Instances"], ["kv", "KV in use"], ["handoffs", "Hand-offs"],
      ["error", "TTFT prediction"]]) {
      const value = element("span"), small = element("small");
      this.figures[key] = [value, small];
      parent.append(element("div", {}, element("dt", { text: title }), element("dd", {}, value, small)));
    }
  }

  show(state) {
    const totals = state.totals;
    const last = Object.keys(state.classes).map((name) => points(state, name).at(-1)).filter(Boolean);
    const met = sum(last, (p) => p.met), missed = sum(last, (p) => p.missed);
    const rows = Object.values(state.instances).map((row) => named(state.columns.instances, row));
    const sick = rows.filter((row) => !["ok", "new"].includes(row.health)).length;
    const error = state.prediction.ttft;
    this.set("attained", met + missed ? percent(met / (met + missed), 1) : "–", "in the last 30 s");
    this.set("goodput", `${rate(met)}/s`, missed ? `${rate(missed)}/s missed` : "");
    this.set("asked", `${rate(totals.requests_per_s)}/s`, `${count(totals.under_way)} under way, ${count(totals.queued)} queued`);
    this.set("tokens", `${rate(totals.output_tokens_per_s)}/s`, `${rate(totals.prompt_tokens_per_s)}/s of prompts`);
    this.set("instances", count(rows.length), sick ? `${sick} not well` : rows.length ? "all well" : "");
    this.set("kv", rows.length ? percent(sum(rows, (r) => r.kv) / rows.length) : "–", rows.length ? `${percent(Math.max(...rows.map((r) => r.kv)))} at most` : "");
    this.set("handoffs", count(totals.handoffs_under_way), `${count(totals.handoffs_done)} done, ${count(totals.handoffs_failed)} failed`);
    this.set("error", error.n ? `± ${seconds(error.p50_s)}` : "–", error.n ? `± ${seconds(error.p90_s)} at p90` : "nothing predicted lately");
  }

  set(key, value, small) {
    setText(this.figures[key][0], value);
    setText(this.figures[key][1], small);
  }
}

export function showPrediction(parent, state) {
  if (!parent.firstChild) {
    parent.append(element("p", { class: "note" }), element("p", { class: "note" }));
  }
  const words = (title, error) => error.n
    ? `${title}: half are within ${seconds(error.p50_s)}, nine of ten within ${seconds(error.p90_s)}; ${percent(error.too_short)} were too short (${count(error.n)} in the last minute).`
    : `${title}: nothing predicted came to its end in the last minute.`;
  setText(parent.children[0], words("First tokens", state.prediction.ttft));
  setText(parent.children[1], words("Ends", state.prediction.e2e));
}

function sum(values, of) {
  return values.reduce((total, value) => total + of(value), 0);
}
