// What the reader does with the page: choose axes, drag limits, choose a trial, copy a command, sort a table.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const objectives = data.axes.slice(0, data.objectives);
const front = data.trials.filter((t) => t.role === "front");
const eligible = data.trials.filter((t) => t.role === "front" || t.role === "dominated");
const byNumber = new Map(data.trials.map((t) => [t.number, t]));
const state = { ...firstAxes(), limits: objectives.map(() => null), picked: null, whole: false };
let at = null;

/** The first two axes on which something can be drawn: without a trained trial the loss is none of them. */
function firstAxes() {
  const pairs = data.axes.flatMap((_, y) => data.axes.map((_, x) => ({ x, y })).slice(y + 1));
  return pairs.find(({ x, y }) => data.trials.some((t) => t.values[x] !== null && t.values[y] !== null)) ?? pairs[0];
}

/** Whether a trial meets every limit; one without a value meets none on it. */
const within = (trial) =>
  objectives.every(({ goal }, i) => {
    const [value, limit] = [trial.values[i], state.limits[i]];
    return limit === null || (value !== null && (goal === "min" ? value <= limit : value >= limit));
  });

/** Nearest to the best of every objective at once, each scaled to its range over these trials. */
function knee(trials) {
  const ranges = objectives.map((_, i) => trials.map((t) => t.values[i])).map((values) => [least(values), most(values)]);
  const distance = (t) =>
    objectives.reduce((sum, o, i) => {
      const [low, high] = ranges[i];
      const best = o.goal === "min" ? low : high;
      return sum + (high > low ? ((t.values[i] - best) / (high - low)) ** 2 : 0);
    }, 0);
  return trials.reduce((best, t) => (distance(t) < distance(best) ? t : best));
}

/** What the page proposes: the picked trial, else the best of the first objective left free, else the knee. */
function proposal() {
  const left = front.filter(within);
  const picked = byNumber.get(state.picked);
  if (picked && within(picked)) return [picked, "Chosen by you"];
  if (!front.length) return [null, "The front is empty"];
  if (!left.length) return [null, "No member of the front lies within these limits"];
  const free = state.limits.indexOf(null);
  if (state.limits.every((limit) => limit === null)) {
    if (data.knee === null) return [front[0], "The only member of the front"];
    return [byNumber.get(data.knee), "The knee: near the best of every objective"];
  }
  if (free < 0) return [knee(left), "The knee within the limits"];
  const sign = objectives[free].goal === "min" ? 1 : -1;
  const best = left.reduce((a, b) => (sign * b.values[free] < sign * a.values[free] ? b : a));
  return [best, `Best ${objectives[free].metric} within the limits`];
}

function facts(list, rows) {
  list.replaceChildren();
  for (const [name, value, spread, meaning] of rows) {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    text.textContent = value;
    if (spread) {
      const small = document.createElement("small");
      small.textContent = spread;
      small.title = meaning;
      text.append(small);
    }
    list.append(term, text);
  }
}

const titleOf = (t) => `Trial ${t.number}`;
const noteOf = (t) => [t.role, ...t.flags, t.role === "front" ? "" : t.reason].filter(Boolean).join(" · ");

function refresh() {
  const [chosen, why] = proposal();
  drawChart(chosen);
  find("chosen-why").textContent = why;
  find("chosen-title").textContent = chosen ? titleOf(chosen) : "";
  const hint = front.length ? "Loosen a limit." : "";
  find("chosen-architecture").textContent = chosen ? `${chosen.architecture} (${noteOf(chosen)})` : hint;
  facts(find("chosen-facts"), chosen ? [...chosen.facts, ...chosen.beside] : []);
  find("chosen-command").hidden = !chosen?.command;
  find("chosen-training").textContent = chosen?.training ?? "";
  find("chosen-train").textContent = chosen?.command ?? "";
  const where = objectives.flatMap((o, i) =>
    state.limits[i] === null ? [] : [`--where "${o.metric}${o.goal === "min" ? "<=" : ">="}${shown(state.limits[i])}"`],
  );
  find("chosen-query").hidden = !where.length;
  find("chosen-where").textContent = `nas front ${data.study} ${where.join(" ")}`;
  let left = 0;
  for (const row of document.querySelectorAll("#front-table tbody tr")) {
    const trial = byNumber.get(Number(row.dataset.trial));
    row.hidden = !within(trial);
    left += row.hidden ? 0 : 1;
    row.classList.toggle("picked", trial === chosen);
  }
  const counted = left < front.length ? `${left} of ${front.length} are within your limits.` : "";
  find("within")?.replaceChildren(counted);
}

function drawChart(chosen) {
  tellBeyond();
  const svg = find("chart").querySelector("svg");
  const focused = svg.contains(document.activeElement) ? document.activeElement.dataset.trial : null;
  at = layout(data.trials, data.axes, state.x, state.y, Math.max(240, find("chart").clientWidth), state.whole);
  svg.replaceChildren();
  if (!at) {
    svg.append(element("text", { x: 0, y: 20 }, "No trial has a value for these axes."));
    return;
  }
  svg.setAttribute("viewBox", `0 0 ${at.width} ${at.height}`);
  for (const draw of [drawStrips, drawAxes, drawStair]) draw(svg, at, data.axes, state.x, state.y);
  drawLimits(svg, at, state.limits, state.x, state.y);
  const order = (t) => -ROLES.indexOf(t.role);
  for (const trial of at.drawn.toSorted((a, b) => order(a) - order(b))) svg.append(mark(trial, chosen));
  const stop = svg.querySelector(`[data-trial="${focused ?? chosen?.number}"]`) ?? svg.querySelector(".mark");
  stop?.setAttribute("tabindex", "0");
  if (focused !== null) stop?.focus();
}

/** Says what stands on the edge since it lies beyond the axes, and offers to show the whole of them. */
function tellBeyond() {
  const [axisX, axisY] = [data.axes[state.x], data.axes[state.y]];
  const told = [axisX, axisY].flatMap((axis) => axis.beyond.filter(Boolean).map((text) => `${axis.metric}: ${text}`));
  find("beyond").hidden = !told.length;
  find("beyond-text").textContent = state.whole ? "" : `At the edge, beyond the axes: ${told.join("; ")}.`;
}

function mark(trial, chosen) {
  const names = ["mark", trial.role];
  if (trial.baseline) names.push("baseline");
  if (!within(trial)) names.push("out");
  if (trial === chosen) names.push("picked");
  const values = trial.facts.map(([name, value]) => `${name} ${value}`).join(", ");
  return element(
    "g",
    {
      class: names.join(" "),
      transform: `translate(${at.place(trial).join(" ")})`,
      role: "button",
      tabindex: "-1",
      "data-trial": trial.number,
      "aria-label": `${titleOf(trial)}, ${noteOf(trial)}: ${trial.architecture}; ${values}`,
    },
    element("circle", { class: "ring", r: 10 }),
    element("path", { d: shapeOf(trial) }),
  );
}

function showTip(trial) {
  const tip = find("tip");
  tip.hidden = !trial;
  if (!trial) return;
  const [title, architecture] = [document.createElement("p"), document.createElement("p")];
  const note = document.createElement("span");
  note.className = "muted";
  note.textContent = ` ${noteOf(trial)}`;
  const name = document.createElement("strong");
  name.textContent = titleOf(trial);
  title.append(name, note);
  architecture.textContent = trial.architecture;
  const list = document.createElement("dl");
  facts(list, trial.facts);
  tip.replaceChildren(title, architecture, list);
  const [px, py] = at.place(trial);
  tip.style.left = `${Math.max(0, Math.min(px + 16, at.width - tip.offsetWidth))}px`;
  tip.style.top = `${py + 16 + tip.offsetHeight > at.height ? py - 16 - tip.offsetHeight : py + 16}px`;
}

function pick(number) {
  state.picked = state.picked === number ? null : number;
  refresh();
}

/** The trial under the pointer, or within reach of it. */
function nearest(event) {
  if (!at) return null;
  const frame = find("chart").getBoundingClientRect();
  const [px, py] = [event.clientX - frame.left, event.clientY - frame.top];
  const distance = (t) => Math.hypot(at.place(t)[0] - px, at.place(t)[1] - py);
  const near = at.drawn.reduce((a, b) => (distance(b) < distance(a) ? b : a));
  return distance(near) < 22 ? near : null;
}

function listenToChart() {
  const svg = find("chart").querySelector("svg");
  const trialOf = (node) => byNumber.get(Number(node.closest(".mark")?.dataset.trial));
  svg.addEventListener("pointermove", (event) => showTip(nearest(event)));
  svg.addEventListener("pointerleave", () => showTip(null));
  svg.addEventListener("click", (event) => {
    const trial = nearest(event);
    if (trial) pick(trial.number);
  });
  svg.addEventListener("focusin", (event) => showTip(trialOf(event.target)));
  svg.addEventListener("focusout", () => showTip(null));
  svg.addEventListener("keydown", (event) => {
    const trial = trialOf(event.target);
    if (!trial) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      const order = at.drawn.toSorted((a, b) => at.place(a)[0] - at.place(b)[0] || a.number - b.number);
      const next = order[(order.indexOf(trial) + step + order.length) % order.length];
      svg.querySelector(`[data-trial="${next.number}"]`).focus();
    } else if (event.key === "Enter" || event.key === " ") {
      pick(trial.number);
    } else if (event.key === "Escape") {
      showTip(null);
    } else return;
    event.preventDefault();
  });
}

/** A slider runs over the eligible trials' values. At its loose end there is no limit. */
function listenToLimit(slider) {
  const i = Number(slider.dataset.objective);
  const { goal, log, low: first, high: last } = objectives[i];
  const values = eligible.map((t) => t.values[i]).map((v) => Math.max(first, Math.min(last, v)));
  const [low, high] = [least(values), most(values)].map(log ? Math.log : (v) => v);
  const loose = goal === "min" ? 1000 : 0;
  slider.value = loose;
  slider.disabled = !(high > low);
  slider.addEventListener("input", () => {
    const position = low + (Number(slider.value) / 1000) * (high - low);
    const limit = Number(slider.value) === loose ? null : rounded(log ? Math.exp(position) : position, goal);
    state.limits[i] = limit;
    slider.previousElementSibling.textContent = limit === null ? "any" : shown(limit);
    slider.setAttribute("aria-valuetext", limit === null ? "no limit" : shown(limit));
    refresh();
  });
}

/** Four digits, rounded to the lenient side, so that the trial at the limit stays within it. */
function rounded(value, goal) {
  const unit = 10 ** (Math.floor(Math.log10(Math.abs(value) || 1)) - 3);
  return Number(((goal === "min" ? Math.ceil : Math.floor)(value / unit) * unit).toPrecision(6));
}

function fillChoices() {
  for (const [id, key] of [["axis-x", "x"], ["axis-y", "y"]]) {
    data.axes.forEach((axis, i) => find(id).append(new Option(axis.label, i, false, i === state[key])));
    find(id).addEventListener("change", (event) => {
      const [chosen, other] = [Number(event.target.value), key === "x" ? "y" : "x"];
      // Two axes alike would show nothing: the other one takes the place that became free.
      if (state[other] === chosen) state[other] = state[key];
      state[key] = chosen;
      find(`axis-${other}`).value = state[other];
      refresh();
    });
  }
  const present = ROLES.filter((role) => data.trials.some((t) => t.role === role));
  const samples = present.map((role) => ({ role, baseline: false }));
  if (data.trials.some((t) => t.baseline)) samples.push({ role: "front", baseline: true });
  for (const sample of samples) {
    const item = document.createElement("li");
    const classes = `mark ${sample.role} ${sample.baseline ? "baseline" : ""}`;
    const icon = element("g", { class: classes }, element("path", { d: shapeOf(sample) }));
    const name = sample.baseline ? "baseline" : sample.role;
    item.append(element("svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }, icon), name);
    find("legend").append(item);
  }
}

function offerCopying() {
  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = button.previousElementSibling;
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = "Copy"), 1500);
      } catch {
        getSelection().selectAllChildren(code); // where the browser forbids the clipboard, Ctrl+C does it
      }
    });
  }
}

function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const compare = heading.classList.contains("n") ? (a, b) => a - b : (a, b) => a.localeCompare(b);
      // A cell without a value comes last in both directions.
      const order = (a, b) => (a === "") - (b === "") || sign * compare(a, b);
      table.tBodies[0].append(...[...table.tBodies[0].rows].toSorted((a, b) => order(key(a), key(b))));
    });
  });
}

offerCopying();
document.querySelectorAll(".sortable").forEach(makeSortable);
if (find("explorer")) {
  find("explorer").hidden = false;
  find("still").hidden = true;
  fillChoices();
  listenToChart();
  document.querySelectorAll("#limits input").forEach(listenToLimit);
  find("whole").checked = false;
  find("whole").addEventListener("change", (event) => {
    state.whole = event.target.checked;
    refresh();
  });
  new ResizeObserver(refresh).observe(find("chart"));
  refresh();
}
