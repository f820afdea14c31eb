// One trace view: what is mounted, and its state. The parts before this one draw it.

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
    this.root.onkeydown = (event) => handleKey(this, event);
    this.root.addEventListener("focusin", (event) => {
      const lane = event.target.closest(".lane, .shared");
      if (lane && lane.dataset.side) this.side = lane.dataset.side;
    });
    this.body = make("div", "stage");
    this.legend = make("div");
    this.panel = make("div", "panel-place");
    this.root.append(toolbarNode(this), this.legend, this.body, make("div", "keys", "Keys: " + KEYS + "."));
    host.replaceChildren(this.root);
    this.hitColour = colourOf(this.root, "var(--hit)");
    this.runSearch();
    layout(this);
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

  pressed() {
    this.bar.querySelectorAll(".choice").forEach((node) => {
      const on = node.dataset.choice === this.state.metric || node.dataset.choice === this.state.mode;
      node.setAttribute("aria-pressed", String(on));
    });
  }

  redraw() {
    this.hitColour = colourOf(this.root, "var(--hit)");
    this.data.lanes.forEach((lane, index) => {
      drawMap(this, SIDES[index]);
      showWindow(this, SIDES[index]);
    });
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
      this.runSearch();
      layout(this);
      this.restore();
    }
    this.tell();
  }

  runSearch() {
    const found = search(this.data, this.state.q);
    this.hits = found.hits.filter((hit) => this.canonical(hit.side + hit.start)[0] === hit.side); // shared text counts once
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
