// The toolbar and the lanes of a view.

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

function toolbarNode(view) {
  const bar = make("div", "toolbar");
  const { scales, missing, lanes, comparable } = view.data;
  bar.append(choiceGroup("tint", TINT_NAMES, (name) => missing[name] || (scales[name] ? scales[name].label : "no tint"),
    view.state.metric, (name) => name === "none" || Boolean(scales[name]), (name) => view.tint(name)));
  if (lanes.length > 1) {
    bar.append(choiceGroup("lanes", MODE_NAMES, (name) => MODE_HELP[name] + (name === "fork" && !comparable ?
      ": needs two texts after the same prompt in the same tokens" : ""), view.state.mode,
    (name) => name !== "fork" || comparable, (name) => view.mode(name)));
  }
  bar.append(searchBox(view));
  const [at] = view.data.divergence;
  if (at !== null && at !== undefined) bar.append(button("small jump", "◆ " + view.data.part, "Go there (d)", () => handleKey(view, { key: "d" })));
  else if (lanes.length > 1) bar.append(make("span", "quiet part", "◆ " + view.data.part));
  view.bar = bar;
  return bar;
}


function layout(view) {
  view.ended = false;
  view.nodes = new Map();
  view.chunks = [];
  view.maps = {};
  view.texts = {};
  delete view.host.dataset.complete;
  const fork = view.state.mode === "fork";
  const grid = make("div", "lanes");
  grid.dataset.count = view.data.lanes.length;
  const stage = make("div", fork ? "columns forked" : "columns");
  if (fork) stage.append(sharedNode(view));
  view.data.lanes.forEach((lane, index) => grid.append(laneNode(view, lane, SIDES[index], fork)));
  stage.append(grid);
  grid.after(view.panel);
  stage.onclick = (event) => {
    const node = event.target.closest(".token");
    if (node) view.choose(node.dataset.address);
  };
  stage.onmouseover = (event) => hover(view, event.target.closest(".token"));
  view.body.replaceChildren(stage);
  build(view);
  view.legend.replaceChildren(legendNode(view));
  view.showPanel();
  view.redraw();
  if (view.watch) view.watch.disconnect();
  view.watch = new ResizeObserver(() => view.redraw());
  view.watch.observe(grid);
}

function textNode(label) {
  const text = make("div", "text");
  text.setAttribute("role", "listbox");
  text.setAttribute("aria-label", label);
  return text;
}

function sharedNode(view) {
  const right = view.lane("b");
  const node = make("section", "shared");
  node.dataset.side = "b";
  const end = right.prompt + view.split();
  const many = end - right.prompt;
  node.append(make("div", "head", "Shared by both arms: prompt and " + many + " generated tokens, shown once with the " +
    "numbers of " + right.label + "."));
  const text = textNode("Tokens that both arms share");
  text.append(promptBlock(view, "b"));
  const body = make("div", "generated");
  addChunks(view, "b", right.prompt, end, body);
  text.append(body);
  node.append(text);
  return node;
}

function laneNode(view, lane, side, fork) {
  const node = make("section", "lane");
  node.dataset.side = side;
  node.append(laneHead(lane), timelineNode(view, side), minimapNode(view, side));
  const text = textNode("Tokens of " + lane.label);
  const body = make("div", "generated");
  const at = view.data.divergence[SIDES.indexOf(side)] ?? null;
  const split = at === null ? lane.tokens.length : Math.min(lane.prompt + at, lane.tokens.length);
  if (!fork) {
    text.append(promptBlock(view, side));
    addChunks(view, side, lane.prompt, split, body);
  }
  if (at !== null) {
    const flag = make("div", "flag", "◆ #" + at);
    flag.title = "The two texts part here. Numbers after this mark cannot be compared position by position.";
    body.append(flag);
    addChunks(view, side, split, lane.tokens.length, body);
  }
  if (lane.tokens.length === lane.prompt) {
    body.append(make("div", "caption", lane.text ? "stored as text, without tokens: no numbers, no edits" : "no token was generated"));
    if (lane.text) body.append(make("div", "plain", lane.text));
  } else if (fork && split >= lane.tokens.length) body.append(make("span", "caption", "this text ends here"));
  text.append(body);
  text.onscroll = () => scrolled(view, side);
  view.texts[side] = text;
  node.append(text);
  return node;
}

function scrolled(view, side) {
  showWindow(view, side);
  if (view.state.mode !== "linked" || view.data.lanes.length < 2 || view.following === side) {
    view.following = null;
    return;
  }
  const other = SIDES[1 - SIDES.indexOf(side)];
  const from = view.texts[side], to = view.texts[other];
  const share = from.scrollTop / Math.max(from.scrollHeight - from.clientHeight, 1);
  const wanted = Math.round(share * (to.scrollHeight - to.clientHeight));
  if (Math.abs(to.scrollTop - wanted) < 2) return;
  view.following = other;
  to.scrollTop = wanted;
}

function hover(view, node) {
  if (!node || node.title) return;
  const side = node.dataset.address[0], position = Number(node.dataset.address.slice(1)), lane = view.lane(side);
  const index = position - lane.prompt;
  const label = labelsAt(lane, position);
  const numbers = Object.keys(view.data.scales).map((name) => [TINT_NAMES[name], valueAt(lane, name, position)])
    .filter(([, value]) => value !== null && value !== 0).map(([name, value]) => name + " " + show(value, 3));
  node.title = [index >= 0 ? "#" + index : "prompt " + position, visible(lane.tokens[position]), ...numbers,
    ...(label ? [said(label)] : [])].join(" · ");
}
