// Lanes that fill token by token. Contract: see __init__.py beside this file.
// Every text is set as textContent or through title/aria attributes; no markup is ever built from data.

const PROMPT_SHOWN = 80;
const TOP = 7; // height in pixels of the largest edit's bar
const ACTS = [
  ["resample", "Draw again ×8 from here", "Keeps all before this token and draws 8 texts per lane; what they come to is counted."],
  ["from", "Steer from here", "Keeps all before this token; the steered lane is steered from its choice on."],
  ["until", "Stop steering here", "Keeps all before this token; the steered lane goes on without edits."],
  ["span", "Add to the span", "The first intervention edits this token too. Nothing is run."],
];

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

function number(value, digits) {
  return value === null || value === undefined ? "—" : value.toFixed(digits).replace("-", "−");
}

// ---- one lane ----------------------------------------------------------------------------------------------------

class Lane {
  constructor(facts, index, looks, choose) {
    this.facts = facts;
    this.choose = choose;
    this.nodes = []; // by position, prompt first
    this.numbers = new Map(); // by position
    this.edits = new Map(); // by position
    this.count = 0;
    this.given = 0; // tokens that the text begins with
    this.begun = 0;
    this.node = make("section", "lane");
    this.node.dataset.lane = String(index);
    this.node.dataset.name = facts.name;
    const head = make("div", "head");
    const title = make("div", "title");
    const look = looks[facts.role] || { glyph: "○", colour: "#808080" };
    const glyph = make("span", "glyph", look.glyph);
    glyph.style.color = look.colour;
    title.append(glyph, make("span", "name", facts.label), make("span", "model", facts.model));
    this.verdict = make("div", "verdict", "…");
    this.notes = make("div", "notes", "waiting for the first token");
    head.append(title, this.verdict, this.notes);
    this.text = make("div", "text");
    this.text.setAttribute("role", "listbox");
    this.text.setAttribute("aria-label", "Tokens of " + facts.label);
    this.text.tabIndex = 0;
    this.text.append(this.promptBlock());
    this.body = make("div", "generated");
    this.text.append(this.body);
    this.node.append(head, this.text);
    this.text.addEventListener("click", (event) => this.pick(event.target));
    this.text.addEventListener("keydown", (event) => this.key(event));
  }

  promptBlock() {
    const block = make("div", "prompt");
    block.append(make("span", "caption", "prompt"));
    const hidden = Math.max(0, this.facts.prompt.length - PROMPT_SHOWN);
    this.facts.prompt.forEach((token, index) => {
      const node = this.token(token, index);
      node.hidden = index < hidden;
      block.append(node);
    });
    if (hidden) {
      const more = make("button", "more", "show " + hidden + " earlier prompt tokens");
      more.type = "button";
      more.onclick = () => {
        this.nodes.slice(0, hidden).forEach((node) => { node.hidden = false; });
        more.remove();
      };
      block.children[0].after(more);
    }
    return block;
  }

  token(text, position) {
    const node = make("span", "token", visible(text));
    node.setAttribute("role", "option");
    node.dataset.position = String(position);
    this.nodes[position] = node;
    return node;
  }

  add(event) {
    const position = this.facts.prompt.length + this.count;
    if (event.begun) this.given += 1;
    if (this.count === this.given) this.begun = performance.now();
    const follow = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 24;
    const node = this.token(event.text, position);
    if (event.begun) node.classList.add("given");
    this.numbers.set(position, event);
    this.count += 1;
    this.body.append(node);
    if (/\n$/.test(event.text)) this.body.append(document.createElement("br"));
    if (event.edit > 0) this.mark(position - 1, event.edit, event.edit);
    this.say(node, position);
    const seconds = (performance.now() - this.begun) / 1000;
    const speed = seconds > 0.3 ? " · " + ((this.count - this.given - 1) / seconds).toFixed(0) + " tokens/s" : "";
    this.notes.textContent = this.count + " tokens" + speed;
    if (follow) this.text.scrollTop = this.text.scrollHeight;
  }

  mark(position, size, top) {
    const node = this.nodes[position];
    if (!node) return;
    this.edits.set(position, size);
    node.classList.add("fired");
    node.style.setProperty("--bar", (2 + (TOP - 2) * Math.min(size / top, 1)).toFixed(1) + "px");
    this.say(node, position);
  }

  say(node, position) {
    node.title = this.facts_of(position).map((pair) => pair.join(" ")).join(" · ");
  }

  facts_of(position) {
    const found = this.numbers.get(position);
    const prompt = this.facts.prompt.length;
    const edit = this.edits.get(position);
    const where = position < prompt ? ["prompt token", "#" + position] : ["generated token", "#" + (position - prompt)];
    const said = [where];
    if (found && found.begun) said.push(["", "given: the text begins with it"]);
    if (found) said.push(["id", String(found.id)], ["log-prob", number(found.logprob, 3)], ["entropy", number(found.entropy, 3)]);
    said.push(["edit ‖Δ‖/‖h‖", edit ? number(edit, 3) : "none"]);
    return said;
  }

  end(event) {
    const top = Math.max(...event.edit, 0);
    event.edit.forEach((size, position) => { if (size > 0) this.mark(position, size, top); });
    const tone = !event.scorable ? "open" : event.correct ? "good" : "bad";
    this.verdict.className = "verdict " + tone;
    this.verdict.replaceChildren();
    const none = !event.scorable && !event.gold ? "not graded: there is no right answer to compare with" : "no answer found";
    const answer = event.answer === null || event.answer === undefined ? none : event.answer;
    const judged = !event.scorable ? "?" : event.correct ? "✓ right" : "✗ wrong";
    this.verdict.append(make("span", "said", answer));
    if (event.scorable) this.verdict.append(make("span", "mark", judged));
    if (event.scorable && !event.correct && event.gold) this.verdict.append(make("span", "quiet", "right: " + event.gold));
    const notes = [event.tokens + " tokens"];
    if (this.given) notes.push("the first " + this.given + " given");
    if (event.seconds) notes.push(((event.tokens - this.given) / event.seconds).toFixed(0) + " tokens/s");
    const ends = { eos: "ended by itself", length: "cut at the token limit", stop: "ended by itself", cancelled: "stopped, partial",
      nonfinite: "broken off: " + (event.broken || "the model's numbers became NaN or infinite") };
    notes.push(ends[event.finish] || event.finish);
    if (event.trace_ok) notes.push("trace verified ✓");
    if (event.trace_ok === false && event.correct) notes.push("trace not verified");
    this.notes.textContent = notes.join(" · ");
    this.node.dataset.finish = event.finish;
  }

  pick(target) {
    const node = target.closest ? target.closest(".token") : null;
    if (!node) return;
    this.node.getRootNode().querySelectorAll(".token.chosen").forEach((other) => other.classList.remove("chosen"));
    node.classList.add("chosen");
    this.chosen = Number(node.dataset.position);
    this.choose(this, this.chosen);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step && event.key !== "Home" && event.key !== "End") return;
    event.preventDefault();
    const prompt = this.facts.prompt.length;
    const last = prompt + this.count - 1;
    const from = this.chosen === undefined ? prompt - 1 : this.chosen;
    const to = step ? from + step : event.key === "Home" ? prompt : last;
    const node = this.nodes[Math.max(0, Math.min(last, to))];
    if (node) {
      this.pick(node);
      node.scrollIntoView({ block: "nearest" });
    }
  }
}

// ---- the whole ---------------------------------------------------------------------------------------------------

class Live {
  constructor(host) {
    this.host = host;
    this.id = null;
  }

  reset(data) {
    this.close();
    this.data = data;
    this.id = data.id;
    this.last = -1;
    this.over = false;
    this.lanes = [];
    this.status = make("div", "status");
    this.chip = make("span", "chip", "connecting");
    this.detail = make("span", "detail");
    this.stop = make("button", "stop", "Cancel");
    this.stop.type = "button";
    this.stop.hidden = true;
    this.stop.onclick = () => this.cancel();
    this.status.append(this.chip, this.detail, this.stop);
    this.status.setAttribute("role", "status");
    this.grid = make("div", "lanes");
    this.panel = make("div", "panel", "Choose a token, by click or with arrows in a lane, to see its numbers.");
    this.receipt = make("div", "receipt open", "receipt: nothing is generated yet");
    this.host.replaceChildren(this.status, this.grid, this.panel, this.receipt);
    this.host.dataset.job = this.id;
    this.host.dataset.last = "-1";
    this.host.dataset.state = "connecting";
  }

  show(data, notify) {
    this.notify = notify;
    if (data.id !== this.id) this.reset(data);
    this.data = data;
    if (data.events) {
      if (!this.over) {
        data.events.forEach((event) => this.take(event));
        this.over = true;
      }
      this.status.hidden = true;
      return;
    }
    if (!this.over) this.open();
  }

  open() {
    this.close();
    const after = this.last >= 0 ? "?after=" + this.last : "";
    const source = new EventSource(this.data.url + "/events" + after);
    this.source = source;
    source.onmessage = (message) => {
      const place = Number(message.lastEventId);
      if (place <= this.last) return; // seen before
      this.last = place;
      this.host.dataset.last = String(place);
      this.take(JSON.parse(message.data));
    };
    source.addEventListener("over", () => {
      this.over = true;
      this.close();
      if (!this.data.ended && this.notify) this.notify("ended", this.id);
    });
    source.onopen = () => { this.host.dataset.link = "open"; };
    source.onerror = () => {
      if (this.over || this.source !== source) return;
      this.host.dataset.link = "lost";
      this.detail.textContent = "connection lost, connecting again…";
      if (source.readyState === EventSource.CLOSED) this.again();
    };
  }

  again() {
    this.close();
    this.timer = setTimeout(async () => {
      try {
        const answer = await fetch(this.data.url);
        if (answer.status === 404) {
          this.over = true;
          this.state({ state: "gone", detail: "", error: "The server does not know this job any more; run it again." });
          return;
        }
      } catch {
        this.again();
        return;
      }
      this.open();
    }, 700);
  }

  close() {
    clearTimeout(this.timer);
    if (this.source) this.source.close();
    this.source = null;
  }

  async cancel() {
    this.stop.disabled = true;
    this.detail.textContent = "stopping…";
    try {
      const answer = await fetch(this.data.url + "/cancel", { method: "POST", credentials: "same-origin", headers: { "X-Steer-Token": this.data.word } });
      if (!answer.ok) this.detail.textContent = (await answer.json()).error;
    } catch {
      this.detail.textContent = "not reached; try again";
    }
    this.stop.disabled = false;
  }

  take(event) {
    if (event.kind === "state") this.state(event);
    else if (event.kind === "lanes") this.begin(event);
    else if (event.kind === "token") this.lanes[event.lane].add(event);
    else if (event.kind === "end") this.finish(this.lanes[event.lane], event);
    else if (event.kind === "outcomes") this.outcomes(event);
    else if (event.kind === "receipt") this.proof(event);
  }

  state(event) {
    const ended = ["done", "cancelled", "failed", "interrupted", "gone"].includes(event.state);
    this.chip.textContent = event.state;
    this.chip.className = "chip " + event.state;
    this.detail.textContent = event.detail || "";
    this.stop.hidden = ended || !this.data.yours;
    this.host.dataset.state = event.state;
    if (event.error) {
      const trouble = make("div", "trouble", event.error);
      trouble.setAttribute("role", "alert");
      this.status.after(trouble);
    }
  }

  begin(event) {
    this.grid.replaceChildren();
    this.lanes = event.lanes.map((lane, index) => new Lane(lane, index, this.data.looks, (from, at) => this.facts(from, at)));
    this.grid.dataset.lanes = String(this.lanes.length);
    this.grid.toggleAttribute("data-many", this.lanes.length > 3);
    this.grid.append(...this.lanes.map((lane) => lane.node));
    if (this.lanes.length > 3) { // draws of one seed beside each other
      const seen = {};
      this.lanes.forEach((lane) => {
        seen[lane.facts.name] = (seen[lane.facts.name] || 0) + 1;
        lane.node.style.order = String(seen[lane.facts.name]);
      });
      this.grid.dataset.lanes = String(Object.keys(seen).length);
    }
    this.grid.before(...(event.warnings || []).map((text) => {
      const said = make("div", "caution", "⚠ " + text);
      said.setAttribute("role", "alert");
      return said;
    }));
    this.receipt.textContent = "receipt: comes when the texts have ended";
  }

  finish(lane, event) {
    lane.end(event);
    if (this.data.ended) lane.text.scrollTop = 0; // a text that is read again is read from its beginning
  }

  outcomes(event) {
    const table = make("table", "outcomes");
    const head = make("tr");
    ["", "right", "what they come to", "distinct texts", "ended", "mean tokens"].forEach((name) => head.append(make("th", "", name)));
    table.append(head);
    for (const lane of event.lanes) {
      const row = make("tr");
      const right = lane.right;
      const share = (value) => (100 * value).toFixed(0);
      const said = lane.said.map(([text, count]) => count + " × " + visible(text)).join(" · ");
      const cells = [lane.label, right === null ? "not graded" : right.count + " of " + right.of + " (" + share(right.low) + " to " + share(right.high) + " %)" + (right.ungraded ? ", " + right.ungraded + " without a grade" : ""),
        said, lane.distinct + " of " + lane.texts, lane.ended + " of " + lane.texts, lane.tokens.toFixed(1)];
      cells.forEach((text, index) => row.append(make(index ? "td" : "th", "", text)));
      table.append(row);
    }
    table.title = "95 % intervals of Wilson, over the draws of this one text";
    this.grid.before(table);
  }

  facts(lane, position) {
    this.panel.replaceChildren(make("span", "shown", visible(lane.nodes[position].textContent)));
    lane.facts_of(position).forEach(([name, value]) => {
      const fact = make("span", "fact");
      const said = make("b", "", value);
      said.dataset.fact = name;
      fact.append(make("span", "quiet", name), said);
      this.panel.append(fact);
    });
    if (this.data.acts && this.over) this.offer(lane, position);
  }

  offer(lane, position) {
    const index = this.lanes.indexOf(lane), prompt = lane.facts.prompt.length, found = lane.numbers.get(position);
    const act = (what) => this.notify("act", { lane: index, position: position, ...what });
    const bar = make("div", "acts");
    const button = (label, help, what) => {
      const node = make("button", "act", label);
      node.type = "button";
      node.title = help;
      node.dataset.act = what.do;
      node.onclick = () => act(what);
      bar.append(node);
    };
    if (found && found.top) {
      const others = found.top.filter(([id]) => id !== found.id);
      if (others.length) bar.append(make("span", "quiet", "instead"));
      others.forEach(([id, text, logprob]) => {
        const share = 100 * Math.exp(logprob);
        const said = share >= 10 ? share.toFixed(0) : share >= 0.1 ? share.toFixed(1) : share.toPrecision(1);
        button(visible(text) + "  " + said + " %", "Puts this token here and goes on from it, in every lane.", { do: "swap", token: id });
      });
    }
    ACTS.forEach(([name, label, help]) => { if (name === "span" || position >= prompt) button(label, help, { do: name }); });
    this.panel.append(bar);
  }

  proof(event) {
    const said = [];
    if (event.steered) {
      const how = event.gated ? "the gate let " + event.fired + " of " + event.planned + " edits through, at " : "fired " + event.fired + " of " + event.planned + " planned edits, at ";
      said.push(how + event.positions + " of " + event.of + " positions");
      said.push(event.sites.join(", "));
      if (event.median !== null) said.push("‖Δ‖/‖h‖ median " + number(event.median, 2) + " (max " + number(event.max, 2) + ")");
      said.push("unsteered replay " + event.replay + (event.replay === "identical" ? " ✓" : ""));
      if (event.hooks !== null) said.push(event.hooks === 0 ? "hooks removed ✓" : event.hooks + " hooks left");
    } else {
      said.push("no edits were asked for, none were made");
    }
    const warnings = event.warnings || [];
    this.host.querySelectorAll(".caution").forEach((said) => said.remove()); // the receipt says it from here on
    const tone = event.ok === false ? "broken" : warnings.length ? "warned" : event.ok ? "good" : "open";
    this.receipt.className = "receipt " + tone;
    this.receipt.textContent = { broken: "✗ receipt: ", warned: "⚠ receipt: ", good: "✓ receipt: ", open: "receipt: " }[tone] + said.join(" · ");
    this.receipt.dataset.ok = String(event.ok);
    for (const problem of event.problems || []) this.receipt.append(make("div", "problem", problem));
    for (const warning of warnings) this.receipt.append(make("div", "problem", "⚠ " + warning));
  }
}

export default function live(component) {
  const host = component.parentElement.querySelector(".live");
  if (!host || !component.data) return undefined;
  if (!host.liveView) host.liveView = new Live(host);
  const view = host.liveView;
  view.show(component.data, component.setTriggerValue);
  return () => view.close();
}
