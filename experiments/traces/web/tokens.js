// Tokens as text: what a token looks like, and a lane's text in chunks that are built when they are needed.
// Every text is set as textContent or as an attribute; no markup is ever built from data.

const SIDES = ["a", "b"];
const PROMPT_SHOWN = 80;
const CHUNK = 160;
const CHUNK_LIMIT = 420;
const AT_ONCE = 400;
const SLICE_MS = 6;

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = String(text);
  return node;
}

function button(className, text, title, onclick) {
  const node = make("button", className, text);
  node.type = "button";
  node.title = title;
  node.onclick = onclick;
  return node;
}

function visible(token) {
  if (token === "") return "∅";
  if (token === " ") return "␣";
  return token.replace(/\r\n|\r|\n/g, "↵").replace(/\t/g, "⇥").replace(
    /[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (c) => "⟨U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0") + "⟩");
}

function show(value, digits) {
  if (value === null || value === undefined) return "—";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text;
}

function signed(value, digits) {
  const text = show(value, digits);
  return Number(text) > 0 ? "+" + text : text.replace("-", "−");
}

function valueAt(lane, metric, position) {
  const list = lane.numbers[metric];
  const index = metric === "edit" ? position : position - lane.prompt;
  const value = list && index >= 0 ? list[index] : null;
  return value === undefined ? null : value;
}

function strength(view, lane, position, metric) {
  const scale = view.data.scales[metric];
  const value = scale ? valueAt(lane, metric, position) : null;
  if (value === null || scale.top <= 0) return 0;
  return Math.min(Math.max((scale.sign * value) / scale.top, 0), 1);
}

function labelsAt(lane, position) {
  const generated = position - lane.prompt;
  if (!lane.topLabel) { // per generated token, the label that is most certain
    lane.topLabel = new Array(lane.tokens.length - lane.prompt).fill(null);
    lane.behaviours.forEach((span) => {
      for (let i = span.start; i < Math.min(span.end, lane.topLabel.length); i += 1) {
        if (!lane.topLabel[i] || (span.confidence ?? 0) > (lane.topLabel[i].confidence ?? 0)) lane.topLabel[i] = span;
      }
    });
  }
  return generated >= 0 ? lane.topLabel[generated] : null;
}

function paint(view, node, side, position) {
  const tint = strength(view, view.lane(side), position, view.state.metric);
  if (tint > 0) node.style.setProperty("--tint", Math.round(tint * 62) + "%");
  else node.style.removeProperty("--tint");
}

function tokenNode(view, side, position) {
  const lane = view.lane(side);
  const node = make("span", "token", visible(lane.tokens[position]));
  node.dataset.address = side + position;
  node.setAttribute("role", "option");
  node.tabIndex = -1;
  paint(view, node, side, position);
  const size = valueAt(lane, "edit", position) ?? 0;
  if (size > 0) {
    node.classList.add("fired");
    node.style.setProperty("--bar", (2 + (4 * size) / (view.data.bar_top || 1)).toFixed(1) + "px");
  }
  const top = labelsAt(lane, position);
  if (top) {
    node.classList.add("behaviour", "style-" + top.style);
    if (top.hollow) node.classList.add("hollow");
    if (top.start === position - lane.prompt) node.dataset.tag = top.letter;
  }
  if (view.hitSet.has(side + position)) node.classList.add("hit");
  return node;
}

// ---- chunks ------------------------------------------------------------------------------------------------------

function chunkPlan(lane, from, to) {
  const plan = [];
  for (let start = from, i = from; i < to; i += 1) {
    const length = i + 1 - start;
    const line = /\n\s*$/.test(lane.tokens[i]);
    if ((line && length >= CHUNK) || length >= CHUNK_LIMIT || i === to - 1) {
      plan.push([start, i + 1]);
      start = i + 1;
    }
  }
  return plan;
}

function fill(view, chunk) {
  if (chunk.built) return;
  chunk.built = true;
  const lane = view.lane(chunk.side);
  const parts = document.createDocumentFragment();
  for (let i = chunk.start; i < chunk.end; i += 1) {
    const node = tokenNode(view, chunk.side, i);
    view.nodes.set(chunk.side + i, node);
    parts.append(node);
    if (/\n\s*$/.test(lane.tokens[i]) && i + 1 < chunk.end) parts.append(document.createElement("br"));
  }
  chunk.node.append(parts);
}

function addChunks(view, side, from, to, parent) {
  const lane = view.lane(side);
  chunkPlan(lane, from, to).forEach(([start, end]) => {
    const chunk = { side, start, end, node: make("div", "chunk"), built: false };
    chunk.node.setAttribute("role", "presentation");
    const letters = lane.tokens.slice(start, end).reduce((sum, token) => sum + Math.max(token.length, 1), 0);
    chunk.node.style.containIntrinsicSize = "auto 400px auto " + Math.max(1, Math.ceil(letters / 55)) * 27 + "px";
    parent.append(chunk.node);
    view.chunks.push(chunk);
  });
}

function promptBlock(view, side) {
  const lane = view.lane(side);
  const block = make("div", "prompt");
  block.append(make("span", "caption", "prompt"));
  const hidden = Math.max(0, lane.prompt - PROMPT_SHOWN);
  const early = make("div", "early");
  addChunks(view, side, 0, hidden, early);
  early.hidden = true;
  if (hidden) {
    const more = button("more", "show " + hidden + " earlier prompt tokens", "The beginning of the prompt", () => {
      view.chunks.filter((chunk) => early.contains(chunk.node)).forEach((chunk) => fill(view, chunk));
      early.hidden = false;
      more.remove();
    });
    early.reveal = () => { if (more.isConnected) more.onclick(); };
    block.append(more, early);
  }
  addChunks(view, side, hidden, lane.prompt, block);
  return block;
}

// The node of an address, built if it is not there yet; null for an address that no text here has.
function nodeAt(view, address) {
  const place = view.canonical(address);
  if (!view.nodes.has(place)) {
    const position = Number(place.slice(1));
    const chunk = view.chunks.find((c) => c.side === place[0] && c.start <= position && position < c.end);
    if (chunk) fill(view, chunk);
  }
  const node = view.nodes.get(place) || null;
  const early = node && node.closest(".early");
  if (early && early.hidden) early.reveal();
  return node;
}

// Work on chunks in short slices while the browser is idle, so that nothing is blocked; `finished` runs after the last.
function whenIdle(view, chunks, work, finished) {
  const idle = window.requestIdleCallback || ((slice) => setTimeout(slice, 16));
  const waiting = [...chunks], layout = view.nodes;
  const slice = () => {
    if (view.ended || view.nodes !== layout) return;
    const begin = performance.now();
    while (waiting.length && performance.now() - begin < SLICE_MS) work(waiting.shift());
    if (waiting.length) idle(slice);
    else if (finished) finished();
  };
  if (waiting.length) idle(slice);
  else if (finished) finished();
}

// The first tokens at once, the others when idle.
function build(view) {
  const built = { a: 0, b: 0 };
  const waiting = [];
  view.chunks.forEach((chunk) => {
    if (chunk.node.closest(".early[hidden]")) return;
    if (built[chunk.side] < AT_ONCE) {
      fill(view, chunk);
      built[chunk.side] += chunk.end - chunk.start;
    } else waiting.push(chunk);
  });
  whenIdle(view, waiting, (chunk) => fill(view, chunk), () => { view.host.dataset.complete = "yes"; });
}

// Tint and hits again: at once where the reader looks, the others when idle.
function repaint(view) {
  const one = (chunk) => {
    for (let i = chunk.start; i < chunk.end; i += 1) {
      const node = view.nodes.get(chunk.side + i);
      if (!node) return;
      paint(view, node, chunk.side, i);
      node.classList.toggle("hit", view.hitSet.has(chunk.side + i));
    }
  };
  const later = [];
  const areas = new Map();
  view.chunks.filter((chunk) => chunk.built).forEach((chunk) => {
    const text = chunk.node.closest(".text");
    if (!areas.has(text)) areas.set(text, text.getBoundingClientRect());
    const box = chunk.node.getBoundingClientRect(), area = areas.get(text);
    if (box.bottom > area.top - 200 && box.top < area.bottom + 200) chunk.due = true;
    else later.push(chunk);
  });
  view.chunks.filter((chunk) => chunk.due).forEach((chunk) => { chunk.due = false; one(chunk); });
  view.host.dataset.painted = "";
  whenIdle(view, later, one, () => { view.host.dataset.painted = "yes"; });
}
