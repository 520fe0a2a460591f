// What opens when something is clicked: the story of a request, or an instance.

import { element, named, percent, seconds } from "./format.js";
import { story } from "./feed.js";

const AGAIN_MS = 1000;

export class Details {
  constructor(dialog) {
    this.dialog = dialog;
    this.title = dialog.querySelector("#details-title");
    this.body = dialog.querySelector("#details-body");
    this.showing = null;
    dialog.querySelector("#details-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => { this.showing = null; });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }

  async request(id) {
    this.open(id, `request ${id}`, element("p", { class: "note", text: "…" }));
    for (;;) {
      let found;
      try {
        found = await story(id);
      } catch (error) {
        if (this.showing === id) this.fill(`request ${id}`, element("p", { text: error.message }));
        return;
      }
      if (this.showing !== id) return;
      this.fill(found.title, ...storyNodes(found));
      if (found.ended) return;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      if (this.showing !== id) return;
    }
  }

  instance(id, state) {
    this.open(`instance ${id}`, `instance ${id}`, ...this.instanceNodes(id, state));
  }

  open(key, title, ...nodes) {
    this.showing = key;
    this.fill(title, ...nodes);
    if (!this.dialog.open) this.dialog.showModal();
    this.title.focus();
  }

  fill(title, ...nodes) {
    if (this.title.textContent !== title) this.title.textContent = title;
    this.body.replaceChildren(...nodes);
  }

  instanceNodes(id, state) {
    const values = state.instances[id];
    if (!values) return [element("p", { text: "It is gone." })];
    const row = named(state.columns.instances, values);
    const facts = [["Pool", row.pool], ["Model", row.model], ["Hardware", row.hardware || "not told"], ["Role", row.role],
      ["Health", row.health], ["KV in use", `${percent(row.kv)}, and ${percent(row.cached)} hold prefixes nobody uses now`],
      ["Batch", `${row.batch} of ${row.most}`], ["Waiting inside", row.queue], ["Requests sent there", row.requests],
      ["Steps", `${row.slowdown.toFixed(2)} times as long as predicted`]];
    const list = element("dl", { class: "facts" });
    for (const [name, value] of facts) list.append(element("dt", { text: name }), element("dd", { text: `${value}` }));
    const place = state.columns.requests.indexOf("instance"), what = state.columns.requests.indexOf("state");
    const here = Object.entries(state.requests).filter(([, r]) => r[place] === id).reverse().slice(0, 20);
    const items = here.map(([request, r]) => {
      const button = element("button", { text: request });
      button.addEventListener("click", () => this.request(request));
      return element("li", {}, element("time", { text: r[what] }), button);
    });
    return [list, element("h3", { text: items.length ? "Latest requests here" : "None of the followed requests was here" }),
      element("ul", { class: "story" }, ...items)];
  }
}

function storyNodes(found) {
  const moments = found.moments.map(([t, text]) =>
    element("li", {}, element("time", { text: `+${seconds(t)}` }), element("span", { text })));
  return [element("ol", { class: "story" }, ...moments), element("p", { class: "verdict", text: found.verdict })];
}
