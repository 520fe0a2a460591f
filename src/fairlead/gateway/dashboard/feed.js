// The stream of pictures from the gateway. `fetch` and not `EventSource`, which cannot send a key.

const RECONNECT_MS = [500, 1000, 2000, 5000, 10000];
const SILENT_MS = 10000; // Something comes every second; so long without a word, and the link is dead.
const KEYED = new Set(["instances", "requests", "handoffs", "classes", "tenants"]);
const MOST_BINS = 300;
const KEY = "fairlead-key";

export const base = new URL(".", import.meta.url);

export function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
}

export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

// The picture with the changes in it, as `observe/window/changes.py` does it.
export function applyChange(state, change) {
  for (const [key, value] of Object.entries(change)) {
    if (KEYED.has(key)) {
      const rows = (state[key] ??= {});
      Object.assign(rows, value.set ?? {});
      for (const name of value.gone ?? []) delete rows[name];
    } else if (key === "bins") {
      state.bins = [...(state.bins ?? []), ...value].slice(-MOST_BINS);
    } else {
      state[key] = value;
    }
  }
  return state;
}

// Cuts a text that comes in pieces into events: [what is left, events].
export function events(text) {
  const parts = text.split("\n\n");
  const rest = parts.pop();
  return [rest, parts.map((part) => {
    const lines = part.split("\n");
    const kind = lines.find((line) => line.startsWith("event: "))?.slice(7) ?? "message";
    const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
    return { kind, data: data ? JSON.parse(data) : null };
  })];
}

// Calls `on.state(state, change)` with every picture, `on.link(word, text)` when the link changes,
// and `on.keyWanted(message)` when a key is missing or wrong; resolves with the next key's coming.
export async function follow(on) {
  for (let failures = 0; ; ) {
    let message = "";
    try {
      const answer = await open(on);
      if (answer.status === 401) {
        await on.keyWanted((await answer.json()).error.message);
        continue;
      }
      if (!answer.ok) message = (await answer.json()).error.message;
      else await read(answer, on, () => { failures = 0; });
    } catch (error) {
      if (!(error instanceof TypeError) && error.name !== "AbortError" && error.name !== "TimeoutError") console.error(error);
    }
    on.link("lost", message || "The gateway does not answer; trying again.");
    const wait = RECONNECT_MS[Math.min(failures++, RECONNECT_MS.length - 1)];
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function open(on) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), SILENT_MS);
  const answer = await fetch(new URL("events", base), { headers: authorization(), signal: abort.signal });
  clearTimeout(timer);
  answer.abort = abort;
  return answer;
}

async function read(answer, on, wellBegun) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let state = null;
  for (;;) {
    const timer = setTimeout(() => answer.abort.abort(), SILENT_MS);
    const { done, value } = await reader.read();
    clearTimeout(timer);
    if (done) return;
    let heard;
    [rest, heard] = events(rest + value);
    for (const { kind, data } of heard) {
      if (kind === "bye") return;
      if (kind === "state") {
        state = data;
        wellBegun();
      } else if (kind === "change" && state) {
        applyChange(state, data);
      }
      if (state) on.state(state, kind === "state" ? null : data);
    }
  }
}

export async function story(id) {
  const answer = await fetch(new URL(`story/${encodeURIComponent(id)}`, base), { headers: authorization() });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error.message);
  return found;
}
