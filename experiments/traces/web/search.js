// Search in the text and by condition: `wait`, `entropy>2`, `edit>0 & logprob<-3`.

const CONDITION = /^(entropy|logprob|edit|kl)\s*(>=|<=|>|<|=)\s*(-?\d+(?:\.\d+)?)$/i;
const LOOKS_LIKE = /^[a-z_]+\s*[<>=]=?\s*-?[\d.]/i;
const COMPARE = {
  ">": (a, b) => a > b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, "<=": (a, b) => a <= b, "=": (a, b) => a === b,
};

function conditionsOf(query) {
  const parts = query.split("&").map((part) => part.trim().match(CONDITION));
  return parts.every(Boolean) ? parts.map(([, name, by, number]) => [name.toLowerCase(), by, Number(number)]) : null;
}

// Hits as {side, start, end}, in the order of the lanes; `note` says what the numbers alone do not.
function search(data, query) {
  const hits = [];
  const wanted = query.trim();
  if (!wanted) return { hits, note: "" };
  const conditions = conditionsOf(wanted);
  if (conditions) {
    const missing = conditions.map(([name]) => name).find((name) => !data.scales[name]);
    if (missing) return { hits, note: missing + ": " + (data.missing[missing] || "not stored") };
    data.lanes.forEach((lane, index) => {
      for (let i = 0; i < lane.tokens.length; i += 1) {
        const holds = conditions.every(([name, by, number]) => {
          const value = valueAt(lane, name, i);
          return value !== null && COMPARE[by](value, number);
        });
        if (holds) hits.push({ side: SIDES[index], start: i, end: i + 1 });
      }
    });
    return { hits, note: "" };
  }
  const needle = wanted.toLowerCase();
  data.lanes.forEach((lane, index) => {
    const between = lane.words ? " " : "";
    const starts = [];
    let text = "";
    lane.tokens.forEach((token) => {
      starts.push(text.length);
      text += token + between;
    });
    text = text.toLowerCase();
    let token = 0;
    for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + Math.max(needle.length, 1))) {
      while (token + 1 < starts.length && starts[token + 1] <= at) token += 1;
      let end = token + 1;
      while (end < starts.length && starts[end] < at + needle.length) end += 1;
      hits.push({ side: SIDES[index], start: token, end });
    }
  });
  const note = LOOKS_LIKE.test(wanted) ? "searched as text; conditions are on entropy, logprob, edit, kl" : "";
  return { hits, note };
}

function searchBox(view) {
  const box = make("div", "search");
  const input = make("input");
  input.type = "search";
  input.placeholder = "text, entropy>2, edit>0, logprob<-3";
  input.setAttribute("aria-label", "Search tokens, by text or by condition");
  input.value = view.state.q;
  const count = make("span", "count");
  count.setAttribute("aria-live", "polite");
  let timer = 0;
  input.oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(() => view.find(input.value, true), 180);
  };
  input.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(timer);
      if (input.value !== view.state.q) view.find(input.value, true);
      view.step(event.shiftKey ? -1 : 1, false);
    } else if (event.key === "Escape") {
      event.preventDefault();
      view.focusToken();
    }
  };
  box.append(input, button("small", "‹", "Previous hit (N, or Shift+Enter)", () => view.step(-1, true)));
  box.append(button("small", "›", "Next hit (n, or Enter)", () => view.step(1, true)), count);
  view.searchParts = { input, count };
  return box;
}

function showCount(view) {
  const { count } = view.searchParts;
  const n = view.hits.length;
  count.textContent = !view.state.q.trim() ? "" : (view.hit >= 0 ? view.hit + 1 + "/" : "") + n +
    (view.hit >= 0 ? "" : n === 1 ? " hit" : " hits") + (view.note ? " · " + view.note : "");
}
