// "Replay this minute": the last of the event log against another policy or another fleet.

import { element, percent, rate, seconds } from "./format.js";
import { authorization, base } from "./feed.js";

const SPANS = [["the last minute", 60], ["the last 5 minutes", 300], ["the last 15 minutes", 900], ["the last hour", 3600]];
const FIGURES = [
  ["Requests", (s) => s.requests.total],
  ["Objectives met", (s) => percent(s.attainment, 1)],
  ["Goodput", (s) => `${rate(s.goodput_rps)}/s`],
  ["Rejected", (s) => s.requests.rejected],
  ["TTFT p50", (s) => seconds(s.ttft_s.p50)],
  ["TTFT p99", (s) => seconds(s.ttft_s.p99)],
  ["TPOT p50", (s) => seconds(s.tpot_s.p50)],
  ["End to end p90", (s) => seconds(s.e2e_s.p90)],
];

export class Replay {
  constructor(parent, section) {
    this.parent = parent;
    this.section = section;
  }

  show(state) {
    const options = state.about.replay;
    this.section.hidden = !options;
    if (options && !this.parent.firstChild) this.build(options, state.about.policy ?? {});
  }

  build(options, policy) {
    this.span = element("select", {}, ...SPANS.map(([text, value]) => element("option", { text, value })));
    this.routing = element("select", {}, ...options.routing.map((name) =>
      element("option", { text: name === policy.routing ? `${name} (as it is)` : name, value: name, selected: name === policy.routing })));
    this.pools = Object.entries(options.pools).map(([name, n]) => {
      const input = element("input", { type: "number", min: 1, max: 1000, value: Math.max(n, 1), required: true });
      return { name, input };
    });
    this.go = element("button", { text: "Replay" });
    const form = element("form", {},
      element("label", { text: "What" }, this.span), element("label", { text: "Routing" }, this.routing),
      ...this.pools.map(({ name, input }) => element("label", { text: `Instances of ${name}` }, input)), this.go);
    this.found = element("div", { "aria-live": "polite" });
    form.addEventListener("submit", (event) => { event.preventDefault(); this.run(); });
    this.parent.append(form, this.found);
  }

  async run() {
    this.go.disabled = true;
    this.found.replaceChildren(element("p", { class: "note", text: "Simulating…" }));
    const asked = {
      last_s: Number(this.span.value),
      routing: this.routing.value,
      instances: Object.fromEntries(this.pools.map(({ name, input }) => [name, Number(input.value)])),
    };
    try {
      const answer = await fetch(new URL("replay", base), {
        method: "POST", headers: { "content-type": "application/json", ...authorization() }, body: JSON.stringify(asked),
      });
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.error.message);
      this.tell(found);
    } catch (error) {
      this.found.replaceChildren(element("p", { class: "empty", text: error.message }));
    } finally {
      this.go.disabled = false;
    }
  }

  tell({ summary, command }) {
    const was = summary.as_it_was;
    const rows = FIGURES.map(([name, of]) => element("tr", {}, element("th", { text: name, scope: "row" }),
      element("td", { class: "number", text: was ? `${of(was)}` : "–" }), element("td", { class: "number", text: `${of(summary)}` })));
    const head = element("tr", {}, element("td"), element("th", { text: "As it was", class: "number", scope: "col" }),
      element("th", { text: "Simulated", class: "number", scope: "col" }));
    this.found.replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)),
      element("p", { class: "note", text: "The same in a shell:" }), element("pre", { text: command }));
  }
}
