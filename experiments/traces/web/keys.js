// What the keys do.

const KEYS = "arrows move · Enter opens, Escape leaves · j k next and previous steered token · [ ] segment · d divergence · " +
  "/ search, n N hits · 1 log-prob, 2 entropy, 3 edit, 4 KL, 0 no tint · Tab other lane";
const TINT_KEYS = { 1: "logprob", 2: "entropy", 3: "edit", 4: "kl", 0: "none" };

function seek(view, side, from, by, wanted) {
  const lane = view.lane(side);
  for (let i = from + by; i >= 0 && i < lane.tokens.length; i += by) if (wanted(i)) return side + i;
  return null;
}

function lineStep(view, side, from, by) {
  const node = nodeAt(view, side + from);
  const start = node.getBoundingClientRect();
  let best = null, cost = Infinity;
  for (let i = from + by, n = 0; n < 300; i += by, n += 1) {
    const next = i >= 0 && i < view.lane(side).tokens.length ? nodeAt(view, side + i) : null;
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

function target(view, key) {
  const address = view.current[view.side] ?? view.current.a;
  if (!address) return null;
  const side = address[0], at = Number(address.slice(1)), lane = view.lane(side);
  const fired = (i) => (valueAt(lane, "edit", i) ?? 0) > 0;
  const starts = lane.behaviours.map((span) => span.start + lane.prompt);
  const split = view.data.divergence[SIDES.indexOf(side)];
  switch (key) {
    case "ArrowRight": return seek(view, side, at, 1, () => true);
    case "ArrowLeft": return seek(view, side, at, -1, () => true);
    case "ArrowDown": return lineStep(view, side, at, 1);
    case "ArrowUp": return lineStep(view, side, at, -1);
    case "Home": return side + Math.min(lane.prompt, lane.tokens.length - 1);
    case "End": return side + (lane.tokens.length - 1);
    case "j": return seek(view, side, at, 1, fired);
    case "k": return seek(view, side, at, -1, fired);
    case "]": return starts.some((s) => s > at) ? side + Math.min(...starts.filter((s) => s > at)) : null;
    case "[": return starts.some((s) => s < at) ? side + Math.max(...starts.filter((s) => s < at)) : null;
    case "d": return split === null || split === undefined ? null : side + Math.min(lane.prompt + split, lane.tokens.length - 1);
    default: return null;
  }
}

function handleKey(view, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key } = event;
  const done = () => { if (event.preventDefault) { event.preventDefault(); event.stopPropagation(); } };
  const token = event.target && event.target.closest && event.target.closest(".token");
  if (key === "/") { done(); view.searchParts.input.focus(); view.searchParts.input.select(); }
  else if (key === "n" || key === "N") { done(); view.step(key === "n" ? 1 : -1, true); }
  else if (TINT_KEYS[key]) { done(); view.tint(TINT_KEYS[key]); }
  else if ((key === "Enter" || key === " ") && token) { done(); view.choose(token.dataset.address); }
  else if (key === "Escape") { done(); view.close(); view.focusToken(); }
  else if (/^(Arrow(Left|Right|Up|Down)|Home|End|[jkd[\]])$/.test(key) && (token || !key.startsWith("Arrow"))) {
    done();
    const next = target(view, key);
    if (!next) return;
    const jump = !key.startsWith("Arrow");
    if (jump) view.go(next, true);
    else view.rove(next, true);
  }
}
