// The fleet as a map: a cell for each instance, by pool. One cell can be tabbed to; arrow keys move.

import { element, inOrder, named, percent, setAttribute, setText } from "./format.js";

const WIDE = 24; // So many instances or fewer have room for words.
const ROLES = { prefill: "P", decode: "D", mixed: "" };

export class Map_ {
  constructor(parent, open) {
    this.parent = parent;
    this.open = open;
    this.cells = new Map(); // By instance.
    this.pools = new Map(); // By name.
    parent.addEventListener("click", (event) => {
      const cell = event.target.closest(".cell");
      if (cell) open(cell.dataset.instance, cell);
    });
    parent.addEventListener("focusin", (event) => this.settle(event.target));
    parent.addEventListener("keydown", (event) => this.move(event));
    this.parent.append(element("p", { class: "empty", text: "No instance has come yet." }));
  }

  show(state, change) {
    const rows = state.instances;
    const touched = change === null ? rows : change.instances?.set ?? {};
    const gone = change === null ? [...this.cells.keys()].filter((id) => !(id in rows)) : change.instances?.gone ?? [];
    for (const id of gone) this.remove(id);
    for (const [id, row] of Object.entries(touched)) this.fill(id, named(state.columns.instances, row));
    if (gone.length || Object.keys(touched).length) this.arrange(Object.keys(rows).length);
  }

  fill(id, row) {
    const cell = this.cells.get(id) ?? this.add(id, row.pool);
    const role = ROLES[row.role] ?? "";
    cell.style.setProperty("--kv-share", `${Math.round(row.kv * 100)}%`);
    setAttribute(cell, "data-health", row.health);
    setAttribute(cell, "aria-label", describe(id, row));
    setAttribute(cell, "title", describe(id, row));
    const [name, figures, small, mark] = cell.children;
    setText(name, id);
    setText(figures, `KV ${percent(row.kv)} · batch ${row.batch}`);
    setText(small, this.parent.dataset.wide === "yes" ? waits(row) : row.queue ? `${row.queue > 99 ? "99+" : row.queue}` : "");
    setText(mark, role);
    cell.queue = row;
  }

  add(id, pool) {
    const cell = element("button", { class: "cell", "data-instance": id, tabindex: "-1" },
      element("b"), element("span"), element("span"), element("span", { class: "role" }));
    this.cells.set(id, cell);
    this.poolOf(pool).append(cell);
    this.unordered = true;
    return cell;
  }

  poolOf(name) {
    if (!this.pools.has(name)) {
      const cells = element("div", { class: "cells", role: "group", "aria-label": `pool ${name}` });
      this.pools.set(name, { cells, head: element("h3") });
      const pool = this.pools.get(name);
      this.parent.append(element("div", { class: "pool" }, pool.head, cells));
    }
    return this.pools.get(name).cells;
  }

  remove(id) {
    const cell = this.cells.get(id);
    if (!cell) return;
    if (cell === document.activeElement) (cell.nextElementSibling ?? cell.previousElementSibling)?.focus();
    cell.remove();
    this.cells.delete(id);
  }

  arrange(n) {
    const wide = n <= WIDE ? "yes" : "no";
    this.parent.querySelector(".empty").hidden = n > 0;
    const changed = this.parent.dataset.wide !== wide;
    this.parent.dataset.wide = wide;
    for (const [name, { cells, head }] of this.pools) {
      const inside = [...cells.children];
      if (this.unordered) cells.append(...inside.sort((a, b) => inOrder(a.dataset.instance, b.dataset.instance)));
      cells.parentElement.hidden = !inside.length;
      cells.classList.toggle("wide", wide === "yes");
      const sick = inside.filter((c) => !["ok", "new"].includes(c.dataset.health)).length;
      setText(head, `${name}: ${inside.length} ${inside.length === 1 ? "instance" : "instances"}${sick ? `, ${sick} not well` : ""}`);
    }
    this.unordered = false;
    if (changed) {
      for (const cell of this.cells.values()) {
        const [name, figures, small] = cell.children;
        name.hidden = figures.hidden = wide === "no";
        const row = cell.queue;
        setText(small, wide === "yes" ? waits(row) : row.queue ? `${row.queue}` : "");
      }
    } else if (wide === "no") {
      for (const cell of this.cells.values()) cell.children[0].hidden = cell.children[1].hidden = true;
    }
    if (!this.parent.querySelector('.cell[tabindex="0"]')) this.parent.querySelector(".cell")?.setAttribute("tabindex", "0");
  }

  settle(cell) {
    if (!cell.classList.contains("cell")) return;
    for (const old of this.parent.querySelectorAll('.cell[tabindex="0"]')) old.tabIndex = -1;
    cell.tabIndex = 0;
  }

  move(event) {
    const cells = [...this.parent.querySelectorAll(".cell")];
    const at = cells.indexOf(event.target);
    if (at < 0) return;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: cells.length - 1 }[event.key]
      ?? (event.key === "ArrowDown" || event.key === "ArrowUp" ? nextRow(cells, at, event.key === "ArrowDown") : null);
    if (to === null || !cells[to]) return;
    event.preventDefault();
    cells[to].focus();
  }
}

// The nearest cell of the row below or above.
function nextRow(cells, at, down) {
  const here = cells[at].getBoundingClientRect();
  const places = cells.map((cell, i) => [cell.getBoundingClientRect(), i]);
  const rows = places.filter(([box]) => (down ? box.top > here.top + 2 : box.top < here.top - 2));
  if (!rows.length) return null;
  const top = down ? Math.min(...rows.map(([box]) => box.top)) : Math.max(...rows.map(([box]) => box.top));
  const row = rows.filter(([box]) => Math.abs(box.top - top) < 2);
  return row.reduce((a, b) => (Math.abs(b[0].left - here.left) < Math.abs(a[0].left - here.left) ? b : a))[1];
}

function waits(row) {
  return row.queue ? `${row.queue} wait` : row.health === "ok" ? "" : row.health;
}

export function describe(id, row) {
  const role = row.role === "mixed" ? "" : `, ${row.role} only`;
  const health = row.health === "ok" ? "well" : row.health;
  return `${id}${role}: ${health}, KV ${percent(row.kv)}, batch ${row.batch} of ${row.most}, ${row.queue} waiting`;
}
