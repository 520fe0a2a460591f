// Puts the page together: the stream of pictures in, everything shown out.

import { follow, keepKey } from "./feed.js";
import { setText } from "./format.js";
import { Classes } from "./classes.js";
import { Details } from "./details.js";
import { Map_ } from "./map.js";
import { Replay } from "./replay.js";
import { Handoffs, InstanceTable, Requests, showPrediction, Tenants, Tiles } from "./lists.js";

const at = (id) => document.getElementById(id);
const details = new Details(at("details"));
let state = null;
let paused = false;
let behind = false; // Pictures came while paused: the next one shown is whole.

const openInstance = (id) => details.instance(id, state);
const openRequest = (id) => details.request(id);
const map = new Map_(at("map"), openInstance);
const instances = new InstanceTable(at("instance-table"), openInstance);
const classes = new Classes(at("classes"));
const requests = new Requests(at("requests"), openRequest);
const handoffs = new Handoffs(at("handoffs"));
const tenants = new Tenants(at("tenants"), at("tenants-section"));
const tiles = new Tiles(at("tiles"));
const replay = new Replay(at("replay"), at("replay-section"));

function show(change) {
  tiles.show(state);
  map.show(state, change);
  instances.show(state);
  classes.show(state);
  requests.show(state);
  handoffs.show(state);
  tenants.show(state);
  showPrediction(at("prediction"), state);
  replay.show(state);
  const name = state.about.fleet ?? "";
  setText(at("fleet-name"), name);
  document.title = name ? `${name} – Fairlead` : "Fairlead";
}

// ---- the link

function link(word, text) {
  const chip = at("link");
  if (chip.dataset.link === word) return;
  chip.dataset.link = word;
  setText(chip, { live: "live", lost: "no link", draining: "draining", paused: "paused" }[word]);
  const problem = at("problem");
  problem.hidden = !text;
  setText(problem, text ?? "");
}

function announce(change) {
  const gone = change?.instances?.gone ?? [];
  if (gone.length) setText(at("announce"), gone.length > 3 ? `${gone.length} instances are gone` : `gone: ${gone.join(", ")}`);
}

follow({
  state(picture, change) {
    state = picture;
    if (paused) {
      behind = true;
      return;
    }
    link(state.totals.draining ? "draining" : "live");
    show(behind ? null : change);
    behind = false;
    announce(change);
  },
  link,
  keyWanted(message) {
    const dialog = at("ask-key");
    setText(at("ask-key-why"), message);
    dialog.showModal();
    return new Promise((resolve) => dialog.addEventListener("close", () => {
      keepKey(at("key").value.trim());
      resolve();
    }, { once: true }));
  },
});

// ---- buttons

at("ask-key").addEventListener("cancel", (event) => event.preventDefault());

at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", paused);
  if (paused) link("paused");
  else if (state) {
    link(state.totals.draining ? "draining" : "live");
    show(null);
    behind = false;
  }
});

at("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = at("find-id").value.trim();
  if (id) openRequest(id);
});

function choose(attribute, chosen) {
  const buttons = document.querySelectorAll(`[data-${attribute}]`);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", other === button);
      chosen(button.dataset[attribute]);
    });
  }
}

choose("view", (view) => {
  at("map").hidden = at("legend").hidden = view !== "map";
  at("instance-table").hidden = view !== "table";
  if (state) instances.show(state);
});

choose("requests", (which) => {
  requests.only = which;
  if (state) requests.show(state);
});

const THEME = "fairlead-theme";
const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  setText(at("theme"), dark() ? "Light" : "Dark");
}

at("theme").addEventListener("click", () => {
  const next = dark() ? "light" : "dark";
  localStorage.setItem(THEME, next);
  setTheme(next);
});
setTheme(localStorage.getItem(THEME));
