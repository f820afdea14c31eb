// The panel of one token: its numbers and alternatives in this arm and, where they can be compared, in the other.

const MEANINGS = {
  position: "Counted over prompt and generated tokens, from 0.",
  "log-prob": "Natural logarithm of the probability, under the model as run, edits included.",
  entropy: "Of the next-token distribution, in nats.",
  "edit ‖Δ‖/‖h‖": "Norm of the change over norm of the activation at this position; the largest over sites.",
  KL: "KL(with the plan ‖ without it) of the prediction of this token, in nats, both reading this arm's own text.",
};

function alternativesAt(lane, position) {
  const { width, ids, logprobs, texts } = lane.alternatives;
  const index = position - lane.prompt;
  const found = [];
  for (let i = index * width; index >= 0 && i < (index + 1) * width && i < ids.length; i += 1) {
    found.push({ id: ids[i], token: texts[ids[i]], logprob: logprobs[i], chosen: ids[i] === lane.ids[position] });
  }
  return found;
}

// Why the other arm's numbers at the same index cannot be set beside these; empty where they can.
function incomparable(data, here, other, position) {
  const index = position - here.prompt;
  if (data.by_text) return "Not comparable: the arms have different tokenisers.";
  if (!data.comparable) return "Not comparable because the prompts differ.";
  const at = data.divergence[0];
  if (at !== null && index > at) return "Not comparable after the divergence at #" + at + ".";
  if (index >= other.tokens.length - other.prompt) {
    return "The other text has ended: it has " + (other.tokens.length - other.prompt) + " tokens.";
  }
  return "";
}

function numbersTable(here, other, position, there, why) {
  const table = make("table", "numbers");
  const head = make("tr");
  head.append(make("th"), make("th", "", "this arm"));
  if (other) head.append(make("th", "", "other"), make("th", "", "difference"));
  table.append(head);
  const row = (name, mine, theirs, digits) => {
    const line = make("tr");
    const term = make("th", "", name);
    if (MEANINGS[name]) term.title = MEANINGS[name];
    const cell = make("td", "", typeof mine === "string" ? mine : show(mine, digits));
    cell.dataset.fact = name;
    line.append(term, cell);
    if (other && theirs === "why") {
      const words = make("td", "quiet", "not comparable");
      words.colSpan = 2;
      words.title = why;
      line.append(words);
    } else if (other) {
      const both = typeof mine === "number" && typeof theirs === "number";
      line.append(make("td", "", typeof theirs === "string" ? theirs : show(theirs, digits)));
      line.append(make("td", "", both ? signed(mine - theirs, digits) : ""));
    }
    table.append(line);
  };
  const logprob = valueAt(here, "logprob", position);
  const pair = (metric) => (why ? "why" : valueAt(other ?? here, metric, there));
  const exp = (value) => (typeof value === "number" ? Math.exp(value) : value);
  row("log-prob", logprob, pair("logprob"), 4);
  row("probability", exp(logprob), exp(pair("logprob")), 4);
  row("entropy", valueAt(here, "entropy", position), pair("entropy"), 4);
  const size = (value) => (value === null || value === 0 ? "not edited" : value);
  const theirs = why ? "why" : size(valueAt(other ?? here, "edit", there));
  row("edit ‖Δ‖/‖h‖", size(valueAt(here, "edit", position)), theirs, 4);
  if (here.numbers.kl) row("KL", valueAt(here, "kl", position), "", 4);
  return table;
}

function alternativesTable(mine, theirs, otherLabel) {
  const table = make("table", "alternatives");
  const head = make("tr");
  ["", "token", "this p"].forEach((text) => head.append(make("th", "", text)));
  if (theirs) ["other p", "Δ log-prob"].forEach((text) => head.append(make("th", "", text)));
  table.append(head);
  const others = new Map((theirs || []).map((entry) => [entry.id, entry]));
  const known = new Set(mine.map((entry) => entry.id));
  const every = [...mine, ...(theirs || []).filter((entry) => !known.has(entry.id)).map((entry) =>
    ({ ...entry, logprob: null, chosen: false, beyond: true }))];
  const gaps = every.map((entry) => {
    const there = others.get(entry.id);
    return theirs && there && entry.logprob !== null && there.logprob !== null ? entry.logprob - there.logprob : null;
  });
  const widest = Math.max(0, ...gaps.map((gap) => Math.abs(gap ?? 0)));
  const p = (entry) => (entry && entry.logprob !== null ? show(Math.exp(entry.logprob), 3) : "–");
  every.forEach((entry, rank) => {
    const there = others.get(entry.id);
    const line = make("tr", entry.chosen ? "chosen-row" : "");
    const what = make("td", "what", visible(entry.token));
    what.title = "id " + entry.id + (entry.logprob === null ? "" : ", log-probability " + show(entry.logprob, 4));
    const value = make("td", "value", p(entry));
    if (entry.logprob !== null) value.style.setProperty("--share", (100 * Math.exp(entry.logprob)).toFixed(1) + "%");
    else value.title = "not among the likeliest that were stored of this arm";
    line.append(make("td", "rank", entry.beyond ? "·" : rank + 1), what, value);
    if (theirs) {
      const other = make("td", "value", p(there));
      if (there && there.logprob !== null) other.style.setProperty("--share", (100 * Math.exp(there.logprob)).toFixed(1) + "%");
      else other.title = "not among the likeliest that were stored of " + otherLabel;
      const gap = gaps[rank];
      line.append(other, make("td", gap !== null && Math.abs(gap) === widest && widest > 0 ? "gap most" : "gap",
        gap === null ? "–" : signed(gap, 2)));
    }
    table.append(line);
  });
  return table;
}

function panelNode(view) {
  const data = view.data;
  const box = make("aside", "panel");
  box.setAttribute("aria-live", "polite");
  box.setAttribute("aria-label", "Numbers of the chosen token");
  if (!view.state.tok) {
    box.append(make("div", "hint", "Choose a token, by click or with arrows and Enter, to see its numbers."));
    return box;
  }
  const side = view.state.tok[0], position = Number(view.state.tok.slice(1));
  const here = view.lane(side), other = data.lanes[1 - SIDES.indexOf(side)] || null;
  const generated = position - here.prompt;
  box.append(make("div", "lane-name", here.label), make("div", "big", visible(here.tokens[position])));
  const where = generated >= 0 ? "generated token #" + generated : "prompt token " + position + " of " + here.prompt;
  const facts = make("div", "notes", where + " · position ");
  const number = (name, value) => {
    const node = make("span", "", value);
    node.dataset.fact = name;
    return node;
  };
  facts.append(number("position", position), " · id ", number("token id", here.ids[position]));
  box.append(facts);
  const why = other ? incomparable(data, here, other, position) : "";
  const there = other ? other.prompt + generated : position;
  box.append(numbersTable(here, other, position, there, why));
  here.behaviours.filter((span) => generated >= 0 && span.start <= generated && generated < span.end)
    .forEach((span) => {
      const line = make("div", "label");
      line.append(make("b", "letter style-" + span.style + (span.hollow ? " hollow" : ""), span.letter), " " + said(span));
      box.append(line);
    });
  const mine = alternativesAt(here, position);
  if (mine.length) {
    const theirs = other && !why ? alternativesAt(other, there) : null;
    const title = theirs ? "Likeliest here, beside " + other.label + " at the same index" : "Likeliest here";
    box.append(make("div", "subtitle", title), alternativesTable(mine, theirs, other ? other.label : ""));
  }
  if (generated < 0) {
    box.append(make("div", "hint", "A prompt token was given, not generated: it has no probability and no alternatives."));
  } else if (why) box.append(make("div", "hint", why));
  return box;
}
