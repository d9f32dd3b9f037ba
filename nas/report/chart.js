// The Pareto chart: scales, ticks and marks. It draws what it is given and keeps no state.

const SHAPES = {
  circle: "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z",
  diamond: "M0,-6.5L6.5,0L0,6.5L-6.5,0Z",
  triangle: "M0,-6L5.7,4.5L-5.7,4.5Z",
  square: "M-4.5,-4.5h9v9h-9Z",
  cross: "M-4.5,-4.5L4.5,4.5M-4.5,4.5L4.5,-4.5",
};
const SHAPE_OF = { front: "circle", dominated: "circle", stopped: "square", infeasible: "triangle", failed: "cross" };
const ROLES = Object.keys(SHAPE_OF);
const STRIP = 26;

function shapeOf(trial) {
  const onFront = trial.role === "front" || trial.role === "dominated";
  return SHAPES[trial.baseline && onFront ? "diamond" : SHAPE_OF[trial.role]];
}

function element(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Tick values: 1, 2 or 5 times a power of ten; on a logarithmic axis those three of every decade, or the powers alone. */
function ticks(low, high, log, wanted) {
  if (log) {
    const decades = Math.log10(high / low);
    const factors = decades < 2.5 ? [1, 2, 5] : [1];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const factor of factors) found.push(factor * 10 ** power);
    return found.filter((tick) => tick >= low && tick <= high);
  }
  const raw = (high - low) / wanted;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= raw);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

const shown = (value) => (Math.abs(value) >= 1e5 ? value.toExponential(0) : String(Number(value.toPrecision(6))));

/** Ticks with as many decimals as the finest of them needs. */
function labels(values, log) {
  const decimals = log ? 0 : Math.max(...values.map((v) => (shown(v).split(".")[1] ?? "").length));
  return values.map((v) => [v, log || Math.abs(v) >= 1e5 ? shown(v) : v.toFixed(decimals)]);
}

const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);

/** The part of an axis that is shown: what the page's data says, or all of these values. */
function range(axis, values, whole) {
  const log = whole ? axis.wholeLog : axis.log;
  return whole ? { log, low: least(values), high: most(values) } : { log, low: axis.low, high: axis.high };
}

/** Maps values to pixels between `from` and `to`, with a margin so that no mark touches the edge. What lies beyond
    the range stands on the edge. */
function scale({ low: first, high: last, log }, from, to) {
  const forward = log ? Math.log : (v) => v;
  const backward = log ? Math.exp : (v) => v;
  let [low, high] = [first, last].map(forward);
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  [low, high] = [low - margin, high + margin];
  const within = (value) => Math.max(low, Math.min(high, log && value <= 0 ? low : forward(value)));
  const map = (value) => from + ((within(value) - low) / (high - low)) * (to - from);
  return Object.assign(map, { low: backward(low), high: backward(high), log });
}

/** The non-dominated of these points in two dimensions, in order along the first. */
function staircase(points, goals) {
  const sign = goals.map((goal) => (goal === "min" ? 1 : -1));
  const sorted = points.toSorted((a, b) => sign[0] * (a[0] - b[0]) || sign[1] * (a[1] - b[1]));
  let best = Infinity;
  return sorted.filter((point) => sign[1] * point[1] < best && ((best = sign[1] * point[1]), true));
}

/** Pixel positions of everything, from the size of the chart and the two axes chosen. */
function layout(trials, axes, x, y, width, whole) {
  const drawn = trials.filter((t) => ROLES.includes(t.role) && (t.values[x] !== null || t.values[y] !== null));
  const values = (i) => drawn.map((t) => t.values[i]).filter((v) => v !== null);
  if (!values(x).length || !values(y).length) return null;
  const stripX = drawn.some((t) => t.values[x] === null) ? STRIP : 0;
  const stripY = drawn.some((t) => t.values[y] === null) ? STRIP : 0;
  const height = Math.min(width * 0.86, 580);
  // The strip for what is missing lies at the bad end of its axis.
  const goodLow = [axes[x].goal === "min", axes[y].goal === "min"];
  const box = {
    left: 52 + (goodLow[0] ? 0 : stripX),
    right: width - 12 - (goodLow[0] ? stripX : 0),
    top: 24 + (goodLow[1] ? stripY : 0),
    bottom: height - 44 - (goodLow[1] ? 0 : stripY),
  };
  const across = scale(range(axes[x], values(x), whole), box.left, box.right);
  const up = scale(range(axes[y], values(y), whole), box.bottom, box.top);
  const strips = {
    x: goodLow[0] ? box.right + STRIP / 2 : box.left - STRIP / 2,
    y: goodLow[1] ? box.top - STRIP / 2 : box.bottom + STRIP / 2,
  };
  const place = (t) => [
    t.values[x] === null ? strips.x : across(t.values[x]),
    t.values[y] === null ? strips.y : up(t.values[y]),
  ];
  return { drawn, box, width, height, across, up, stripX, stripY, strips, place, goodLow };
}

function drawAxes(svg, at, axes, x, y) {
  const { box, across, up } = at;
  const bottom = at.height - 44;
  const xs = ticks(across.low, across.high, across.log, Math.max(3, at.width / 110));
  for (const [tick, text] of labels(xs, across.log)) {
    svg.append(element("line", { class: "grid", x1: across(tick), x2: across(tick), y1: box.top, y2: box.bottom }));
    svg.append(element("text", { x: across(tick), y: bottom + 17, "text-anchor": "middle" }, text));
  }
  for (const [tick, text] of labels(ticks(up.low, up.high, up.log, 6), up.log)) {
    svg.append(element("line", { class: "grid", x1: box.left, x2: box.right, y1: up(tick), y2: up(tick) }));
    svg.append(element("text", { x: 46, y: up(tick) + 4, "text-anchor": "end" }, text));
  }
  const arrow = (i, low, high) => (axes[i].metric === "trial" ? "" : ` ${axes[i].goal === "min" ? low : high} better`);
  svg.append(element("text", { class: "title", x: 0, y: 12 }, axes[y].label + arrow(y, "↓", "↑")));
  const corner = { class: "title", x: at.width - 12, y: at.height - 6, "text-anchor": "end" };
  svg.append(element("text", corner, axes[x].label + arrow(x, "←", "→")));
}

/** The strips in which trials stand that have no value for an axis. */
function drawStrips(svg, at) {
  const { box, strips } = at;
  if (at.stripY) {
    svg.append(element("rect", { class: "strip", x: box.left, width: box.right - box.left, y: strips.y - 11, height: 22 }));
    svg.append(element("text", { x: 46, y: strips.y + 4, "text-anchor": "end" }, "none"));
  }
  if (at.stripX) {
    svg.append(element("rect", { class: "strip", x: strips.x - 11, width: 22, y: box.top, height: box.bottom - box.top }));
    svg.append(element("text", { x: strips.x, y: at.height - 27, "text-anchor": "middle" }, "none"));
  }
}

/** The front of the two axes as a stepped line, and a tint over what it dominates. */
function drawStair(svg, at, axes, x, y) {
  const eligible = at.drawn.filter((t) => t.role === "front" || t.role === "dominated");
  const points = eligible.map((t) => [t.values[x], t.values[y]]);
  const steps = staircase(points, [axes[x].goal, axes[y].goal]).map(([a, b]) => [at.across(a), at.up(b)]);
  if (!steps.length) return;
  const { box, goodLow } = at;
  const worstX = goodLow[0] ? box.right : box.left;
  const worstY = goodLow[1] ? box.top : box.bottom;
  const line = steps.map(([px, py], i) => (i ? `H${px}V${py}` : `M${px},${worstY}V${py}`)).join("") + `H${worstX}`;
  svg.append(element("path", { class: "dominated-area", d: `${line}V${worstY}Z` }));
  svg.append(element("path", { class: "stair", d: line }));
}

function drawLimits(svg, at, limits, x, y) {
  const { box, goodLow } = at;
  if (limits[x] != null) {
    const px = Math.max(box.left, Math.min(box.right, at.across(limits[x])));
    const outside = goodLow[0] ? { x: px, width: box.right - px } : { x: box.left, width: px - box.left };
    svg.append(element("rect", { class: "outside", ...outside, y: box.top, height: box.bottom - box.top }));
    svg.append(element("line", { class: "limit", x1: px, x2: px, y1: box.top, y2: box.bottom }));
  }
  if (limits[y] != null) {
    const py = Math.max(box.top, Math.min(box.bottom, at.up(limits[y])));
    const outside = goodLow[1] ? { y: box.top, height: py - box.top } : { y: py, height: box.bottom - py };
    svg.append(element("rect", { class: "outside", ...outside, x: box.left, width: box.right - box.left }));
    svg.append(element("line", { class: "limit", x1: box.left, x2: box.right, y1: py, y2: py }));
  }
}
