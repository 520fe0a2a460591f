// Figures as people read them, and small helpers for building the page. Whatever comes from the
// gateway is set as text, never as markup.

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.0995) return `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)} ms`;
  if (value < 100) return `${value.toPrecision(3).replace(/\.?0+$/, "")} s`;
  return value < 3600 ? `${Math.floor(value / 60)} min ${Math.round(value % 60)} s` : `${(value / 3600).toFixed(1)} h`;
}

export function percent(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  // 99.96 % is not 100 %.
  const shown = value < 1 ? Math.min(value * 100, 100 - 10 ** -digits) : 100;
  return `${shown.toFixed(digits)} %`;
}

export function count(value) {
  return Math.round(value).toLocaleString("en");
}

export function rate(value) {
  return value < 10 ? value.toFixed(1) : count(value);
}

export function element(tag, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(name, value);
  }
  if (text !== undefined) made.textContent = text;
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Sets a text only where it changed: unchanged nodes cost the browser nothing.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// Rows come as lists of values; their names stand in the picture's `columns`.
export function named(columns, row) {
  return Object.fromEntries(columns.map((name, place) => [name, row[place]]));
}

// i2 comes before i10.
export const inOrder = new Intl.Collator("en", { numeric: true }).compare;

// A table with one row for each entry: rows are kept by key, moved and changed only where needed.
export class Table {
  constructor(parent, columns, emptyText) {
    this.columns = columns;
    this.rows = new Map();
    const heads = columns.map((c) => element("th", { text: c.title, scope: "col", class: cellClass(c) }));
    this.body = element("tbody");
    this.table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), this.body);
    this.empty = element("p", { class: "empty", text: emptyText });
    parent.replaceChildren(this.table, this.empty);
  }

  show(entries) {
    this.table.hidden = !entries.length;
    this.empty.hidden = entries.length > 0;
    const present = new Set(entries.map((entry) => entry.key));
    for (const [key, row] of this.rows) {
      if (!present.has(key)) {
        row.remove();
        this.rows.delete(key);
      }
    }
    entries.forEach((entry, place) => {
      const row = this.rows.get(entry.key) ?? this.makeRow(entry.key);
      if (this.body.children[place] !== row) this.body.insertBefore(row, this.body.children[place] ?? null);
      this.columns.forEach((column, i) => column.fill
        ? column.fill(row.children[i], entry)
        : setText(row.children[i], column.value(entry)));
    });
  }

  makeRow(key) {
    const row = element("tr", {}, ...this.columns.map((c) => element("td", { class: cellClass(c) })));
    this.rows.set(key, row);
    return row;
  }
}

function cellClass(column) {
  return [column.number && "number", column.wideOnly && "wide-only"].filter(Boolean).join(" ") || undefined;
}
