// What stands above a lane's text: head, segment timeline and minimap; and the legend of all lanes.

const MAP_HEIGHT = 46;

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

function said(span) {
  const sure = span.confidence === null ? "" : ", confidence " + show(span.confidence, 2);
  return span.label + " · detector " + span.detector + sure + (span.hollow ? " (keywords only)" : "");
}

function timelineNode(view, side) {
  const lane = view.lane(side);
  const total = Math.max(lane.tokens.length, 1);
  const bar = make("div", "timeline");
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Segments of " + lane.label + ": " + lane.behaviours.length +
    (lane.behaviours.length ? ". Keys [ and ] step through them." : ""));
  lane.behaviours.forEach((span) => {
    const position = lane.prompt + span.start;
    const node = button("segment style-" + span.style + (span.hollow ? " hollow" : ""), span.letter,
      said(span) + " · #" + span.start + " to #" + (span.end - 1), () => view.go(side + position, true));
    node.tabIndex = -1;
    node.setAttribute("aria-label", said(span));
    node.style.left = (100 * position) / total + "%";
    node.style.width = (100 * (span.end - span.start)) / total + "%";
    bar.append(node);
  });
  const at = view.data.divergence[SIDES.indexOf(side)];
  if (at !== null && at !== undefined) bar.append(parting((lane.prompt + at) / total));
  if (!lane.behaviours.length) bar.append(make("span", "caption", "no behaviour labels"));
  return bar;
}

function parting(share) {
  const line = make("i", "parting");
  line.style.left = Math.min(100 * share, 99.6) + "%";
  return line;
}

function minimapNode(view, side) {
  const lane = view.lane(side);
  const box = make("div", "minimap");
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  const fired = (lane.numbers.edit || []).filter((size) => size > 0).length;
  canvas.setAttribute("aria-label", "Minimap of " + lane.label + ": " + lane.tokens.length + " tokens, " + fired +
    " steered, " + view.data.part);
  box.title = "The whole text: tint as a curve (mean, and pale the largest), behaviours, steered positions (orange). Click to jump there.";
  const frame = make("div", "window");
  box.append(canvas, frame);
  const at = view.data.divergence[SIDES.indexOf(side)];
  if (at !== null && at !== undefined) box.append(parting((lane.prompt + at) / Math.max(lane.tokens.length, 1)));
  box.onclick = (event) => {
    const area = box.getBoundingClientRect();
    const share = (event.clientX - area.left) / Math.max(area.width, 1);
    const position = Math.min(Math.floor(share * lane.tokens.length), lane.tokens.length - 1);
    if (position >= 0) view.go(side + Math.max(position, 0), true);
  };
  view.maps[side] = { box, canvas, frame };
  return box;
}

function colourOf(host, expression) {
  const probe = make("i");
  probe.style.color = expression;
  probe.hidden = true;
  host.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function drawMap(view, side) {
  const { canvas, box } = view.maps[side];
  const lane = view.lane(side);
  const width = Math.max(Math.floor(box.clientWidth), 40);
  const ratio = window.devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = MAP_HEIGHT * ratio;
  const pen = canvas.getContext("2d");
  if (!pen) return;
  pen.scale(ratio, ratio);
  const root = view.root;
  const blue = colourOf(root, "var(--tinted)"), orange = colourOf(root, "var(--steer)");
  const quiet = colourOf(root, "var(--line)");
  const marks = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => colourOf(root, "var(--mark-" + i + ")"));
  const total = lane.tokens.length;
  pen.fillStyle = quiet;
  pen.globalAlpha = 0.45;
  pen.fillRect(0, 0, (width * lane.prompt) / Math.max(total, 1), MAP_HEIGHT);
  pen.globalAlpha = 1;
  for (let x = 0; x < width; x += 1) {
    const from = Math.floor((x * total) / width);
    const to = Math.max(from + 1, Math.floor(((x + 1) * total) / width));
    let most = 0, sum = 0, bar = 0, label = null;
    for (let i = from; i < to && i < total; i += 1) {
      const tint = strength(view, lane, i, view.state.metric);
      most = Math.max(most, tint);
      sum += tint;
      bar = Math.max(bar, valueAt(lane, "edit", i) ?? 0);
      label = label || labelsAt(lane, i);
    }
    pen.fillStyle = blue;
    const mean = sum / Math.max(Math.min(to, total) - from, 1);
    pen.globalAlpha = 0.3; // the largest of the tokens under this pixel, and over it their mean
    pen.fillRect(x, 25 - 24 * most, 1, 24 * most);
    pen.globalAlpha = 1;
    pen.fillRect(x, 25 - 24 * mean, 1, 24 * mean);
    if (label) {
      pen.fillStyle = marks[label.style];
      if (label.hollow) { pen.fillRect(x, 28, 1, 1); pen.fillRect(x, 33, 1, 1); } else pen.fillRect(x, 28, 1, 6);
    }
    if (bar > 0) {
      const height = 3 + (6 * bar) / (view.data.bar_top || 1);
      pen.fillStyle = orange;
      pen.fillRect(x, 46 - height, 1, height);
    }
  }
  view.hits.filter((hit) => hit.side === side).forEach((hit) => {
    pen.fillStyle = view.hitColour;
    pen.fillRect((hit.start * width) / total, 0, 1.5, 5);
  });
}

function showWindow(view, side) {
  const map = view.maps[side], text = view.texts[side];
  if (!map || !text) return;
  const height = Math.max(text.scrollHeight, 1);
  map.frame.style.left = (100 * text.scrollTop) / height + "%";
  map.frame.style.width = Math.min(100, (100 * text.clientHeight) / height) + "%";
}

function legendNode(view) {
  const data = view.data;
  const legend = make("div", "legend");
  const scale = data.scales[view.state.metric];
  if (scale) {
    const tint = make("span", "entry");
    tint.append(make("b", "", scale.label), make("span", "", scale.low));
    tint.append(make("i", "ramp"), make("span", "", scale.high), make("span", "quiet", scale.meaning));
    legend.append(tint);
  }
  if (data.bar_top > 0) {
    const bar = make("span", "entry");
    bar.append(make("i", "bar-sample"), make("span", "", "steering edited this position"));
    bar.append(make("span", "quiet", "taller: larger ‖Δ‖/‖h‖, up to " + data.bar_top.toFixed(2)));
    legend.append(bar);
  }
  data.behaviours.forEach((entry) => {
    const node = make("span", "entry");
    node.append(make("b", "letter style-" + entry.style, entry.letter), make("i", "line-sample style-" + entry.style));
    node.append(make("span", "", entry.label), make("span", "quiet", entry.source));
    legend.append(node);
  });
  if (data.lanes.some((lane) => lane.behaviours.some((span) => span.hollow))) {
    legend.append(make("span", "entry quiet", "dashed or hollow: found by keywords only; most such marks do not " +
      "survive a second sample"));
  }
  return legend;
}
