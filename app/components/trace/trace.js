// Lanes of tokens and the panel of one token. Contract: see __init__.py beside this file.
// Every text is set as textContent or through title/aria attributes; no markup is ever built from data.

const PROMPT_SHOWN = 80;

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = String(text);
  return node;
}

function visible(token) {
  if (token === "") return "∅";
  return token.replace(/\r\n|\r|\n/g, "↵").replace(/\t/g, "⇥");
}

function show(value, digits) {
  return value === null || value === undefined ? "—" : value.toFixed(digits);
}

// ---- lanes -------------------------------------------------------------------------------------------------------

function tokenNode(lane, side, position, divergence) {
  const node = make("span", "token", visible(lane.tokens[position]));
  const generated = position - lane.prompt;
  node.dataset.address = side + position;
  node.setAttribute("role", "option");
  node.setAttribute("aria-selected", "false");
  node.tabIndex = -1;
  const tint = lane.tint[position];
  if (tint) node.style.setProperty("--tint", String(Math.round(tint * 62)) + "%");
  const bar = lane.bar[position];
  if (bar > 0) {
    node.classList.add("fired");
    node.style.setProperty("--bar", (2 + 5 * bar).toFixed(1) + "px");
  }
  const spans = lane.behaviours.filter((s) => s.start <= generated && generated < s.end);
  if (generated >= 0 && spans.length) {
    const top = spans.reduce((a, b) => ((b.confidence ?? 0) > (a.confidence ?? 0) ? b : a));
    node.classList.add("behaviour", "style-" + top.style);
    if (top.start === generated) node.dataset.tag = top.letter;
  }
  if (divergence !== null && generated >= divergence) node.classList.add("after");
  return node;
}

function divergenceFlag(divergence) {
  const flag = make("span", "flag", "◆ #" + divergence);
  flag.title = "The two texts part here. Numbers to the right of this mark cannot be compared position by position.";
  return flag;
}

function promptBlock(lane, side) {
  const block = make("div", "prompt");
  block.append(make("span", "caption", "prompt"));
  const hidden = Math.max(0, lane.prompt - PROMPT_SHOWN);
  const early = [];
  for (let i = 0; i < lane.prompt; i += 1) {
    const node = tokenNode(lane, side, i, null);
    if (i < hidden) {
      node.hidden = true;
      early.push(node);
    }
    block.append(node);
    if (/\n$/.test(lane.tokens[i])) block.append(document.createElement("br"));
  }
  if (hidden) {
    const more = make("button", "more", "show " + hidden + " earlier prompt tokens");
    more.type = "button";
    more.onclick = () => {
      early.forEach((node) => { node.hidden = false; });
      more.remove();
    };
    block.children[0].after(more);
  }
  return block;
}

function laneHead(lane) {
  const head = make("div", "head");
  const title = make("div", "title");
  const glyph = make("span", "glyph", lane.glyph);
  glyph.style.color = lane.colour;
  title.append(glyph, make("span", "name", lane.label), make("span", "role", lane.role));
  const answer = make("div", "answer " + lane.verdict.tone);
  answer.append(make("span", "said", lane.verdict.answer), make("span", "mark", lane.verdict.mark));
  answer.append(make("span", "judged", lane.verdict.meaning));
  const receipt = make("div", lane.receipt.ok ? "receipt" : "receipt broken");
  receipt.textContent = (lane.receipt.ok ? "" : "✗ ") + lane.receipt.text;
  receipt.title = "The receipt: edits that the plan covers, and edits that were really made.";
  head.append(title, answer, make("div", "notes", lane.notes.join(" · ")));
  head.append(make("div", "notes", lane.steered), receipt);
  return head;
}

function laneNode(lane, side, divergence) {
  const node = make("section", "lane");
  node.dataset.side = side;
  node.append(laneHead(lane));
  const text = make("div", "text");
  text.setAttribute("role", "listbox");
  text.setAttribute("aria-label", "Tokens of " + lane.label);
  text.append(promptBlock(lane, side));
  const body = make("div", "generated");
  for (let i = lane.prompt; i < lane.tokens.length; i += 1) {
    if (divergence !== null && i - lane.prompt === divergence) body.append(divergenceFlag(divergence));
    body.append(tokenNode(lane, side, i, divergence));
    if (/\n$/.test(lane.tokens[i])) body.append(document.createElement("br"));
  }
  if (lane.tokens.length === lane.prompt) body.append(make("span", "caption", "no token was generated"));
  text.append(body);
  node.append(text);
  return node;
}

function legendNode(data) {
  const legend = make("div", "legend");
  if (data.scale) {
    const tint = make("span", "entry");
    tint.append(make("b", "", data.scale.label), make("span", "", data.scale.low));
    tint.append(make("i", "ramp"), make("span", "", data.scale.high), make("span", "quiet", data.scale.meaning));
    legend.append(tint);
  }
  if (data.bar_top > 0) {
    const bar = make("span", "entry");
    bar.append(make("i", "bar-sample"), make("span", "", "steering edited this position"));
    bar.append(make("span", "quiet", "taller: larger ‖Δ‖/‖h‖, up to " + data.bar_top.toFixed(2)));
    legend.append(bar);
  }
  for (const entry of data.behaviours) {
    const node = make("span", "entry");
    const sample = make("i", "line-sample behaviour style-" + entry.style);
    node.append(make("b", "letter", entry.letter), sample, make("span", "", entry.label));
    node.append(make("span", "quiet", entry.source));
    legend.append(node);
  }
  return legend;
}

function mountLanes(host, data, setTriggerValue) {
  const sides = ["a", "b"];
  const grid = make("div", "lanes");
  data.lanes.forEach((lane, i) => grid.append(laneNode(lane, sides[i], data.divergence)));
  const keys = make("div", "keys", "Click a token for its numbers. Keys: arrows move, Enter opens, " +
    "j / k next and previous steered token, d divergence, Tab other lane.");
  host.replaceChildren(legendNode(data), grid, keys);

  const byAddress = new Map();
  host.querySelectorAll(".token").forEach((node) => byAddress.set(node.dataset.address, node));
  const laneOf = (node) => sides.indexOf(node.dataset.address[0]);
  const positionOf = (node) => Number(node.dataset.address.slice(1));

  function rove(node, focus) {
    host.querySelectorAll(".lane[data-side=" + node.dataset.address[0] + "] .token[tabindex='0']")
      .forEach((old) => { old.tabIndex = -1; });
    node.tabIndex = 0;
    if (focus) {
      node.focus({ preventScroll: true });
      node.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }

  function mark(node) {
    host.querySelectorAll(".chosen, .twin").forEach((old) => {
      old.classList.remove("chosen", "twin");
      old.setAttribute("aria-selected", "false");
    });
    node.classList.add("chosen");
    node.setAttribute("aria-selected", "true");
    const lane = laneOf(node);
    const generated = positionOf(node) - data.lanes[lane].prompt;
    const other = data.lanes[1 - lane];
    const shared = data.comparable && (data.divergence === null || generated <= data.divergence);
    if (!other || !shared) return;
    const twin = byAddress.get(sides[1 - lane] + (other.prompt + generated));
    if (twin) twin.classList.add("twin");
  }

  function choose(node) {
    rove(node, true);
    mark(node);
    setTriggerValue("token", node.dataset.address);
  }

  function stepTo(node, by, wanted) {
    const side = node.dataset.address[0];
    for (let i = positionOf(node) + by; byAddress.has(side + i); i += by) {
      const next = byAddress.get(side + i);
      if (!next.hidden && (!wanted || wanted(next))) return next;
    }
    return null;
  }

  function lineStep(node, by) {
    const from = node.getBoundingClientRect();
    let best = null;
    let bestCost = Infinity;
    const other = (next) => Math.abs(next.getBoundingClientRect().top - from.top) > from.height / 2;
    for (let next = stepTo(node, by, other), n = 0; next && n < 200; next = stepTo(next, by), n += 1) {
      const box = next.getBoundingClientRect();
      const cost = Math.abs(box.left - from.left) + 10 * Math.abs(box.top - from.top);
      if (cost < bestCost) {
        best = next;
        bestCost = cost;
      }
    }
    return best;
  }

  const moves = {
    ArrowRight: (node) => stepTo(node, 1),
    ArrowLeft: (node) => stepTo(node, -1),
    ArrowDown: (node) => lineStep(node, 1),
    ArrowUp: (node) => lineStep(node, -1),
    Home: (node) => byAddress.get(node.dataset.address[0] + data.lanes[laneOf(node)].prompt),
    End: (node) => byAddress.get(node.dataset.address[0] + (data.lanes[laneOf(node)].tokens.length - 1)),
    j: (node) => stepTo(node, 1, (next) => next.classList.contains("fired")),
    k: (node) => stepTo(node, -1, (next) => next.classList.contains("fired")),
    d: (node) => data.divergence === null ? null :
      byAddress.get(node.dataset.address[0] + (data.lanes[laneOf(node)].prompt + data.divergence)),
  };

  grid.onclick = (event) => {
    const node = event.target.closest(".token");
    if (node) choose(node);
  };
  grid.onkeydown = (event) => {
    const node = event.target.closest(".token");
    if (!node || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      event.stopPropagation();
      choose(node);
    } else if (moves[event.key]) {
      event.preventDefault();
      event.stopPropagation();
      const next = moves[event.key](node);
      if (next) rove(next, true);
    }
  };
  grid.onmouseover = (event) => {
    const node = event.target.closest(".token");
    if (!node || node.title) return;
    const lane = data.lanes[laneOf(node)];
    const generated = positionOf(node) - lane.prompt;
    const place = generated >= 0 ? "#" + generated : "prompt " + positionOf(node);
    const names = lane.behaviours.filter((s) => s.start <= generated && generated < s.end).map((s) => s.label);
    node.title = [place, visible(lane.tokens[positionOf(node)]), ...names].join(" · ");
  };

  data.lanes.forEach((lane, i) => {
    const first = byAddress.get(sides[i] + Math.min(lane.prompt, lane.tokens.length - 1));
    if (first) first.tabIndex = 0;
  });
  const chosen = data.selected && byAddress.get(data.selected);
  if (chosen) {
    chosen.hidden = false;
    rove(chosen, false);
    mark(chosen);
    const text = chosen.closest(".text");
    text.scrollTop = chosen.offsetTop - text.offsetTop - text.clientHeight / 2;
  }
}

// ---- panel -------------------------------------------------------------------------------------------------------

function alternativesNode(title, list) {
  const block = make("div", "alternatives");
  block.append(make("div", "subtitle", title));
  list.forEach((entry, rank) => {
    const row = make("div", entry.chosen ? "row chosen-row" : "row");
    row.title = "id " + entry.id + ", log-probability " + show(entry.logprob, 4);
    const meter = make("span", "meter");
    const fill = make("i");
    fill.style.width = (100 * (entry.probability ?? 0)).toFixed(1) + "%";
    meter.append(fill);
    row.append(make("span", "rank", rank + 1), make("span", "what", visible(entry.token)), meter);
    row.append(make("span", "value", show(entry.probability, 3)));
    block.append(row);
  });
  return block;
}

function mountPanel(host, data) {
  const box = make("aside", "panel");
  box.setAttribute("aria-live", "polite");
  if (!data.token && data.token !== "") {
    box.append(make("div", "hint", data.hint));
    host.replaceChildren(box);
    return;
  }
  box.append(make("div", "lane-name", data.lane), make("div", "big", visible(data.token)));
  box.append(make("div", "notes", data.where));
  const list = make("dl");
  const fact = (name, value, help) => {
    const term = make("dt", "", name);
    if (help) term.title = help;
    const said = make("dd", "", value);
    said.dataset.fact = name;
    list.append(term, said);
  };
  fact("token id", data.id);
  fact("position", data.position, "Counted over prompt and generated tokens, from 0.");
  fact("log-prob", show(data.logprob, 4), "Natural logarithm of the probability, under the model as run, edits included.");
  fact("probability", show(data.probability, 4));
  fact("entropy", show(data.entropy, 4), "Of the next-token distribution, in nats.");
  fact("edit ‖Δ‖/‖h‖", data.edit_ratio ? show(data.edit_ratio, 4) : "not edited",
    "Norm of the change over norm of the activation; the largest over sites.");
  for (const span of data.behaviours) {
    fact(span.label, span.detector + (span.confidence === null ? "" : ", confidence " + show(span.confidence, 2)));
  }
  box.append(list);
  if (data.here.length) box.append(alternativesNode("Likeliest here", data.here));
  if (data.there.length) box.append(alternativesNode("Same index: " + data.there_title, data.there));
  if (data.note) box.append(make("div", "hint", data.note));
  host.replaceChildren(box);
}

export default function trace(component) {
  const host = component.parentElement.querySelector(".trace");
  if (!host || !component.data) return;
  if (component.data.kind === "panel") mountPanel(host, component.data);
  else mountLanes(host, component.data, component.setTriggerValue);
}
