// Charts: one line, or one row of bars, with a readout that follows pointer, finger and arrow keys.

import { dayKey, el, shortDay, shortTime } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 190;
const MARGIN = { left: 52, right: 14, top: 16, bottom: 26 };

// points: [{ time, value, group, failed, text }], oldest first. A new group begins a new stretch of the line.
export function lineChart(holder, points, format, summary) {
  const values = points.map((point) => point.value);
  const middle = (Math.min(...values) + Math.max(...values)) / 2;
  const half = Math.max((Math.max(...values) - Math.min(...values)) * 0.65, 0.01);
  const ticks = niceTicks(Math.max(0, middle - half), Math.min(1, middle + half));
  draw(holder, points, ticks, format, summary, (svg, x, y) => {
    for (const stretch of stretches(points)) {
      const path = stretch.map((at, n) => `${n ? "L" : "M"}${x(at)},${y(points[at].value)}`).join("");
      svg.append(shape("path", { d: path, class: "line" }));
      if (stretch[0] > 0) {
        svg.append(shape("line", { x1: x(stretch[0]), x2: x(stretch[0]), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, class: "change" }));
      }
    }
    const radius = points.length > 60 ? 0 : 2.5;
    points.forEach((point, at) => {
      const kind = point.failed ? "dot failed" : "dot";
      svg.append(shape("circle", { cx: x(at), cy: y(point.value), r: point.failed ? 4 : radius, class: kind }));
    });
  });
}

export function barChart(holder, points, format, summary) {
  const ticks = niceTicks(0, Math.max(...points.map((point) => point.value)));
  draw(holder, points, ticks, format, summary, (svg, x, y, width) => {
    const breadth = Math.max(2, Math.min(22, (width / points.length) * 0.68));
    points.forEach((point, at) => {
      const top = y(point.value);
      const height = HEIGHT - MARGIN.bottom - top;
      if (height > 0) svg.append(shape("rect", { x: x(at) - breadth / 2, y: top, width: breadth, height, rx: Math.min(2, breadth / 3), class: "column" }));
    });
  });
}

// The frame of both: axes, the readout, redrawn when the width changes so that text keeps its size.
function draw(holder, points, ticks, format, summary, paint) {
  const readout = el("p", { class: "readout", "aria-live": "polite" });
  const svg = shape("svg", { role: "img", tabindex: "0", "aria-label": `${summary}. Arrow keys go from one to the next.` });
  const first = points[0].time, last = points.at(-1).time;
  const tickText = last > first && dayKey(first) === dayKey(last) ? shortTime : shortDay;
  let chosen = points.length - 1;
  let x = () => 0;

  const redraw = () => {
    const width = Math.max(240, holder.clientWidth);
    const inner = width - MARGIN.left - MARGIN.right;
    const low = ticks[0], high = ticks.at(-1);
    const inset = Math.min(14, inner / points.length / 2);
    x = (at) => MARGIN.left + inset + (last > first ? (points[at].time - first) / (last - first) : 0.5) * (inner - 2 * inset);
    const y = (value) => MARGIN.top + (1 - (value - low) / (high - low)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", HEIGHT);
    svg.replaceChildren();
    for (const tick of ticks) {
      svg.append(shape("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick), class: "grid" }));
      svg.append(words(MARGIN.left - 8, y(tick) + 4, "end", format(tick)));
    }
    for (const [at, anchor] of dateTicks(points, x, inner)) svg.append(words(x(at), HEIGHT - 6, anchor, tickText(points[at].time)));
    paint(svg, x, y, inner);
    const cursor = shape("line", { y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, class: "cursor" });
    const mark = shape("circle", { r: 4.5, class: "mark" });
    svg.append(cursor, mark);
    svg.choose = (at) => {
      chosen = at;
      cursor.setAttribute("x1", x(at));
      cursor.setAttribute("x2", x(at));
      mark.setAttribute("cx", x(at));
      mark.setAttribute("cy", y(points[at].value));
      readout.replaceChildren(...points[at].text);
    };
    svg.choose(chosen);
  };

  svg.addEventListener("pointermove", (event) => {
    const place = event.clientX - svg.getBoundingClientRect().left;
    svg.choose(points.reduce((best, _, at) => (Math.abs(x(at) - place) < Math.abs(x(best) - place) ? at : best), 0));
  });
  svg.addEventListener("pointerleave", () => svg.choose(points.length - 1));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -points.length, End: points.length }[event.key];
    if (!step) return;
    event.preventDefault();
    svg.choose(Math.min(points.length - 1, Math.max(0, chosen + step)));
  });
  holder.replaceChildren(readout, svg);
  holder.removeAttribute("aria-busy");
  redraw();
  holder.resizing?.disconnect();
  holder.resizing = new ResizeObserver(redraw);
  holder.resizing.observe(holder);
}

function stretches(points) {
  const found = [];
  points.forEach((point, at) => {
    if (at && points[at - 1].group === point.group) found.at(-1).push(at);
    else found.push([at]);
  });
  return found;
}

function niceTicks(low, high) {
  const rough = (high - low || 1) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const ticks = [];
  for (let at = Math.floor(low / step + 1e-9); at * step < high + step * 0.999; at += 1) ticks.push(at * step);
  return ticks;
}

function dateTicks(points, x, inner) {
  const room = Math.max(2, Math.floor(inner / 110));
  const ends = [[0, "start"], [points.length - 1, "end"]];
  if (points.length === 1) return [[0, "middle"]];
  const between = [];
  for (let n = 1; n < room - 1; n += 1) {
    const place = x(0) + ((x(points.length - 1) - x(0)) * n) / (room - 1);
    const at = points.reduce((best, _, i) => (Math.abs(x(i) - place) < Math.abs(x(best) - place) ? i : best), 0);
    if ([...ends, ...between].every(([other]) => Math.abs(x(other) - x(at)) > 70)) between.push([at, "middle"]);
  }
  return [...ends, ...between];
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function words(x, y, anchor, text) {
  const made = shape("text", { x, y, "text-anchor": anchor });
  made.textContent = text;
  return made;
}
