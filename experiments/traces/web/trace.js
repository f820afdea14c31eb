// One trace view: what is mounted, its state, its keys. The parts before this one draw it.

const KEYS = "arrows move · Enter opens, Escape leaves · j k next and previous steered token · [ ] segment · d divergence · " +
  "/ search, n N hits · 1 log-prob, 2 entropy, 3 edit, 4 KL, 0 no tint · Tab other lane";
const TINT_KEYS = { 1: "logprob", 2: "entropy", 3: "edit", 4: "kl", 0: "none" };
const TINT_NAMES = { logprob: "log-prob", entropy: "entropy", edit: "edit size", kl: "KL", none: "none" };
const MODE_NAMES = { linked: "linked scroll", free: "free scroll", fork: "fork" };
const MODE_HELP = {
  linked: "Lanes side by side, scrolled together by share of their length",
  free: "Lanes side by side, each scrolled by itself",
  fork: "What both arms share is shown once; then the text splits",
};

function choiceGroup(title, names, help, current, enabled, choose) {
  const group = make("div", "choices");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", title);
  group.append(make("span", "caption", title));
  Object.entries(names).forEach(([name, label]) => {
    const node = button("choice", label, help(name), () => choose(name));
    node.dataset.choice = name;
    node.disabled = !enabled(name);
    node.setAttribute("aria-pressed", String(name === current));
    group.append(node);
  });
  return group;
}

class TraceView {
  constructor(host, data, report) {
    this.host = host;
    this.data = data;
    this.report = report;
    this.state = { ...data.view };
    this.given = JSON.stringify(data.view);
    this.current = {};
    this.side = "a";
    data.lanes.forEach((lane) => { lane.words = !lane.tokens.some((token) => /^\s|\s$/.test(token) && token.trim()); });
    this.root = make("div", "view");
    this.root.onkeydown = (event) => this.key(event);
    this.root.addEventListener("focusin", (event) => {
      const lane = event.target.closest(".lane, .shared");
      if (lane && lane.dataset.side) this.side = lane.dataset.side;
    });
    this.body = make("div", "stage");
    this.legend = make("div");
    this.panel = make("div", "panel-place");
    this.root.append(this.toolbar(), this.legend, this.body, make("div", "keys", "Keys: " + KEYS + "."));
    host.replaceChildren(this.root);
    this.hitColour = colourOf(this.root, "var(--hit)");
    this.runSearch();
    this.layout();
    this.restore();
  }

  lane(side) { return this.data.lanes[SIDES.indexOf(side)]; }

  // In fork mode what both share is drawn once, as tokens of the right arm.
  canonical(address) {
    const lane = this.lane(address[0]);
    if (this.state.mode !== "fork" || address[0] === "b" || !lane) return address;
    return Number(address.slice(1)) < lane.prompt + this.split() ? "b" + address.slice(1) : address;
  }

  split() {
    const right = this.lane("b");
    return this.data.divergence[1] ?? right.tokens.length - right.prompt;
  }

  tell() { if (this.report) this.report({ ...this.state }); }

  toolbar() {
    const bar = make("div", "toolbar");
    const { scales, missing, lanes, comparable } = this.data;
    bar.append(choiceGroup("tint", TINT_NAMES, (name) => missing[name] || (scales[name] ? scales[name].label : "no tint"),
      this.state.metric, (name) => name === "none" || Boolean(scales[name]), (name) => this.tint(name)));
    if (lanes.length > 1) {
      bar.append(choiceGroup("lanes", MODE_NAMES, (name) => MODE_HELP[name] + (name === "fork" && !comparable ?
        ": needs two texts after the same prompt in the same tokens" : ""), this.state.mode,
      (name) => name !== "fork" || comparable, (name) => this.mode(name)));
    }
    bar.append(searchBox(this));
    const [at] = this.data.divergence;
    if (at !== null && at !== undefined) bar.append(button("small jump", "◆ " + this.data.part, "Go there (d)", () => this.key({ key: "d" })));
    else if (lanes.length > 1) bar.append(make("span", "quiet part", "◆ " + this.data.part));
    this.bar = bar;
    return bar;
  }

  pressed() {
    this.bar.querySelectorAll(".choice").forEach((node) => {
      const on = node.dataset.choice === this.state.metric || node.dataset.choice === this.state.mode;
      node.setAttribute("aria-pressed", String(on));
    });
  }

  // ---- drawing ---------------------------------------------------------------------------------------------------

  layout() {
    this.ended = false;
    this.nodes = new Map();
    this.chunks = [];
    this.maps = {};
    this.texts = {};
    delete this.host.dataset.complete;
    const fork = this.state.mode === "fork";
    const grid = make("div", "lanes");
    grid.dataset.count = this.data.lanes.length;
    const stage = make("div", fork ? "columns forked" : "columns");
    if (fork) stage.append(this.shared());
    this.data.lanes.forEach((lane, index) => grid.append(this.laneNode(lane, SIDES[index], fork)));
    stage.append(grid);
    grid.after(this.panel);
    stage.onclick = (event) => {
      const node = event.target.closest(".token");
      if (node) this.choose(node.dataset.address);
    };
    stage.onmouseover = (event) => this.hover(event.target.closest(".token"));
    this.body.replaceChildren(stage);
    build(this);
    this.legend.replaceChildren(legendNode(this));
    this.showPanel();
    this.redraw();
    if (this.watch) this.watch.disconnect();
    this.watch = new ResizeObserver(() => this.redraw());
    this.watch.observe(grid);
  }

  text(side, label) {
    const text = make("div", "text");
    text.setAttribute("role", "listbox");
    text.setAttribute("aria-label", label);
    return text;
  }

  shared() {
    const right = this.lane("b");
    const node = make("section", "shared");
    node.dataset.side = "b";
    const end = right.prompt + this.split();
    const many = end - right.prompt;
    node.append(make("div", "head", "Shared by both arms: prompt and " + many + " generated tokens, shown once with the " +
      "numbers of " + right.label + "."));
    const text = this.text("b", "Tokens that both arms share");
    text.append(promptBlock(this, "b"));
    const body = make("div", "generated");
    addChunks(this, "b", right.prompt, end, body);
    text.append(body);
    node.append(text);
    return node;
  }

  laneNode(lane, side, fork) {
    const node = make("section", "lane");
    node.dataset.side = side;
    node.append(laneHead(lane), timelineNode(this, side), minimapNode(this, side));
    const text = this.text(side, "Tokens of " + lane.label);
    const body = make("div", "generated");
    const at = this.data.divergence[SIDES.indexOf(side)] ?? null;
    const split = at === null ? lane.tokens.length : Math.min(lane.prompt + at, lane.tokens.length);
    if (!fork) {
      text.append(promptBlock(this, side));
      addChunks(this, side, lane.prompt, split, body);
    }
    if (at !== null) {
      const flag = make("div", "flag", "◆ #" + at);
      flag.title = "The two texts part here. Numbers after this mark cannot be compared position by position.";
      body.append(flag);
      addChunks(this, side, split, lane.tokens.length, body);
    }
    if (lane.tokens.length === lane.prompt) {
      body.append(make("div", "caption", lane.text ? "stored as text, without tokens: no numbers, no edits" : "no token was generated"));
      if (lane.text) body.append(make("div", "plain", lane.text));
    } else if (fork && split >= lane.tokens.length) body.append(make("span", "caption", "this text ends here"));
    text.append(body);
    text.onscroll = () => this.scrolled(side);
    this.texts[side] = text;
    node.append(text);
    return node;
  }

  redraw() {
    this.hitColour = colourOf(this.root, "var(--hit)");
    this.data.lanes.forEach((lane, index) => {
      drawMap(this, SIDES[index]);
      showWindow(this, SIDES[index]);
    });
  }

  scrolled(side) {
    showWindow(this, side);
    if (this.state.mode !== "linked" || this.data.lanes.length < 2 || this.following === side) {
      this.following = null;
      return;
    }
    const other = SIDES[1 - SIDES.indexOf(side)];
    const from = this.texts[side], to = this.texts[other];
    const share = from.scrollTop / Math.max(from.scrollHeight - from.clientHeight, 1);
    const wanted = Math.round(share * (to.scrollHeight - to.clientHeight));
    if (Math.abs(to.scrollTop - wanted) < 2) return;
    this.following = other;
    to.scrollTop = wanted;
  }

  hover(node) {
    if (!node || node.title) return;
    const side = node.dataset.address[0], position = Number(node.dataset.address.slice(1)), lane = this.lane(side);
    const index = position - lane.prompt;
    const label = labelsAt(lane, position);
    const numbers = Object.keys(this.data.scales).map((name) => [TINT_NAMES[name], valueAt(lane, name, position)])
      .filter(([, value]) => value !== null && value !== 0).map(([name, value]) => name + " " + show(value, 3));
    node.title = [index >= 0 ? "#" + index : "prompt " + position, visible(lane.tokens[position]), ...numbers,
      ...(label ? [said(label)] : [])].join(" · ");
  }

  // ---- state -----------------------------------------------------------------------------------------------------

  tint(name) {
    if (name !== "none" && !this.data.scales[name]) return;
    this.state.metric = name;
    repaint(this);
    this.legend.replaceChildren(legendNode(this));
    this.pressed();
    this.redraw();
    this.tell();
  }

  mode(name) {
    if (name === "fork" && !this.data.comparable) return;
    const again = name === "fork" || this.state.mode === "fork";
    this.state.mode = name;
    this.pressed();
    if (again) {
      this.ended = true;
      this.layout();
      this.restore();
    }
    this.tell();
  }

  runSearch() {
    const found = search(this.data, this.state.q);
    this.hits = found.hits;
    this.note = found.note;
    this.hit = -1;
    this.hitSet = new Set();
    this.hits.forEach((hit) => {
      for (let i = hit.start; i < hit.end; i += 1) this.hitSet.add(hit.side + i);
    });
  }

  find(query, tell) {
    this.state.q = query.slice(0, 200);
    this.runSearch();
    this.clearHit();
    repaint(this);
    showCount(this);
    this.redraw();
    if (tell) this.tell();
  }

  step(by, focus) {
    if (!this.hits.length) return;
    const n = this.hits.length;
    this.hit = this.hit < 0 ? (by > 0 ? 0 : n - 1) : (this.hit + by + n) % n;
    const hit = this.hits[this.hit];
    this.clearHit();
    this.go(hit.side + hit.start, focus);
    for (let i = hit.start; i < hit.end; i += 1) {
      const node = nodeAt(this, hit.side + i);
      if (node) node.classList.add("hit-now");
    }
    showCount(this);
  }

  clearHit() { this.root.querySelectorAll(".hit-now").forEach((node) => node.classList.remove("hit-now")); }

  restore() {
    this.data.lanes.forEach((lane, index) => {
      const address = this.current[SIDES[index]] ?? SIDES[index] + Math.min(lane.prompt, lane.tokens.length - 1);
      if (lane.tokens.length) this.rove(address, false);
    });
    showCount(this);
    if (this.state.tok) {
      this.mark();
      this.go(this.state.tok, false);
    }
  }

  showPanel() { this.panel.replaceChildren(panelNode(this)); }

  mark() {
    this.root.querySelectorAll(".chosen, .twin").forEach((old) => {
      old.classList.remove("chosen", "twin");
      old.removeAttribute("aria-selected");
    });
    if (!this.state.tok) return;
    const node = nodeAt(this, this.state.tok);
    if (!node) return;
    node.classList.add("chosen");
    node.setAttribute("aria-selected", "true");
    const here = this.lane(this.state.tok[0]), other = 1 - SIDES.indexOf(this.state.tok[0]);
    const position = Number(this.state.tok.slice(1));
    if (!this.data.lanes[other] || incomparable(this.data, here, this.data.lanes[other], position)) return;
    const twin = nodeAt(this, SIDES[other] + position);
    if (twin && twin !== node) twin.classList.add("twin");
  }

  choose(address) {
    this.state.tok = address;
    this.rove(address, true);
    this.mark();
    this.showPanel();
    this.tell();
  }

  close() {
    if (!this.state.tok) return;
    this.state.tok = null;
    this.mark();
    this.showPanel();
    this.tell();
  }

  // The one token of a lane that Tab reaches.
  rove(address, focus) {
    const node = nodeAt(this, address);
    if (!node) return null;
    const side = node.dataset.address[0];
    const before = this.current[side] && this.nodes.get(this.canonical(this.current[side]));
    if (before) before.tabIndex = -1;
    node.tabIndex = 0;
    this.current[side] = node.dataset.address;
    if (focus) {
      this.side = side;
      node.focus({ preventScroll: true });
      this.bring(node, "nearest");
    }
    return node;
  }

  bring(node, where) {
    const text = node.closest(".text");
    const place = () => {
      const box = node.getBoundingClientRect(), area = text.getBoundingClientRect();
      const outside = box.top < area.top + 4 || box.bottom > area.bottom - 4;
      if (where === "nearest" && !outside) return;
      text.scrollTop += box.top - area.top - (where === "nearest" && box.top < area.top + 4 ? 24 :
        where === "nearest" ? text.clientHeight - box.height - 24 : text.clientHeight / 2);
    };
    place();
    requestAnimationFrame(place); // text that was only estimated has its true height now
  }

  go(address, focus) {
    const node = this.rove(address, false);
    if (!node) return;
    if (focus) {
      this.side = node.dataset.address[0];
      node.focus({ preventScroll: true });
    }
    this.bring(node, "middle");
  }

  focusToken() {
    const node = nodeAt(this, this.current[this.side] ?? this.current.a ?? "a0");
    if (node) node.focus({ preventScroll: true });
  }

  // ---- keys ------------------------------------------------------------------------------------------------------

  seek(side, from, by, wanted) {
    const lane = this.lane(side);
    for (let i = from + by; i >= 0 && i < lane.tokens.length; i += by) if (wanted(i)) return side + i;
    return null;
  }

  line(side, from, by) {
    const node = nodeAt(this, side + from);
    const start = node.getBoundingClientRect();
    let best = null, cost = Infinity;
    for (let i = from + by, n = 0; n < 300; i += by, n += 1) {
      const next = i >= 0 && i < this.lane(side).tokens.length ? nodeAt(this, side + i) : null;
      if (!next) break;
      const box = next.getBoundingClientRect();
      const down = Math.abs(box.top - start.top);
      if (down < start.height / 2) continue;
      if (down > 3 * start.height && best) break;
      const price = Math.abs(box.left - start.left) + 10 * down;
      if (price < cost) { best = next; cost = price; }
    }
    return best && best.dataset.address;
  }

  target(key) {
    const address = this.current[this.side] ?? this.current.a;
    if (!address) return null;
    const side = address[0], at = Number(address.slice(1)), lane = this.lane(side);
    const fired = (i) => (valueAt(lane, "edit", i) ?? 0) > 0;
    const starts = lane.behaviours.map((span) => span.start + lane.prompt);
    const split = this.data.divergence[SIDES.indexOf(side)];
    switch (key) {
      case "ArrowRight": return this.seek(side, at, 1, () => true);
      case "ArrowLeft": return this.seek(side, at, -1, () => true);
      case "ArrowDown": return this.line(side, at, 1);
      case "ArrowUp": return this.line(side, at, -1);
      case "Home": return side + Math.min(lane.prompt, lane.tokens.length - 1);
      case "End": return side + (lane.tokens.length - 1);
      case "j": return this.seek(side, at, 1, fired);
      case "k": return this.seek(side, at, -1, fired);
      case "]": return starts.some((s) => s > at) ? side + Math.min(...starts.filter((s) => s > at)) : null;
      case "[": return starts.some((s) => s < at) ? side + Math.max(...starts.filter((s) => s < at)) : null;
      case "d": return split === null || split === undefined ? null : side + Math.min(lane.prompt + split, lane.tokens.length - 1);
      default: return null;
    }
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    const done = () => { if (event.preventDefault) { event.preventDefault(); event.stopPropagation(); } };
    const token = event.target && event.target.closest && event.target.closest(".token");
    if (key === "/") { done(); this.searchParts.input.focus(); this.searchParts.input.select(); }
    else if (key === "n" || key === "N") { done(); this.step(key === "n" ? 1 : -1, true); }
    else if (TINT_KEYS[key]) { done(); this.tint(TINT_KEYS[key]); }
    else if ((key === "Enter" || key === " ") && token) { done(); this.choose(token.dataset.address); }
    else if (key === "Escape") { done(); this.close(); this.focusToken(); }
    else if (/^(Arrow(Left|Right|Up|Down)|Home|End|[jkd[\]])$/.test(key) && (token || !key.startsWith("Arrow"))) {
      done();
      const next = this.target(key);
      if (!next) return;
      const jump = !key.startsWith("Arrow");
      if (jump) this.go(next, true);
      else this.rove(next, true);
    }
  }

  // ---- data again --------------------------------------------------------------------------------------------------

  // The same rows with a view that differs from the one given before: Back, or a link. What the reader did since stays.
  apply(data) {
    const given = JSON.stringify(data.view);
    if (given !== this.given) {
      this.given = given;
      const wanted = data.view, report = this.report;
      this.report = null;
      if (wanted.mode !== this.state.mode) this.mode(wanted.mode);
      if (wanted.metric !== this.state.metric) this.tint(wanted.metric);
      if (wanted.q !== this.state.q) {
        this.searchParts.input.value = wanted.q;
        this.find(wanted.q, false);
      }
      if (wanted.tok !== this.state.tok) {
        this.state.tok = wanted.tok;
        this.mark();
        this.showPanel();
        if (wanted.tok) this.go(wanted.tok, false);
      }
      this.report = report;
    }
    this.redraw();
  }
}

function mountTrace(host, data, report) {
  const begin = performance.now();
  if (host.traceView && host.traceView.data.identity === data.identity) {
    host.traceView.report = report;
    host.traceView.apply(data);
    return host.traceView;
  }
  if (host.traceView) {
    host.traceView.ended = true;
    host.traceView.watch.disconnect();
  }
  host.traceView = new TraceView(host, data, report);
  host.dataset.builtMs = (performance.now() - begin).toFixed(1);
  return host.traceView;
}
