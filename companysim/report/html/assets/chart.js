// Line charts: axes, lines that differ in colour and dash, values under the pointer or the arrow keys.
const DASHES = { sae: "", sae_pca: "6 3", residual_mean: "9 3", tfidf: "", minilm: "8 3 2 3", sic: "2 3", gics: "12 3" };
const TONES = { sae: 0, tfidf: 1, gics: 2, sae_pca: 3, residual_mean: 4, minilm: 5, sic: 6 };

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-9) + 1e-12; k += 1) found.push(k * step);
  return found;
}

// Digits that tell evenly spaced ticks apart; the summand undoes the rounding of their difference.
const digits = (marks) => (marks.length > 1 ? Math.max(0, -Math.floor(Math.log10(marks[1] - marks[0]) + 1e-9)) : 1);

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const factor of [1, 2, 5]) if (factor * 10 ** power >= low * 0.999 && factor * 10 ** power <= high * 1.001) found.push(factor * 10 ** power);
  }
  return found;
}

function yearTicks(low, high) {
  const found = [];
  for (let year = new Date(low).getUTCFullYear(); Date.UTC(year) <= high; year += 1) if (Date.UTC(year) >= low) found.push(Date.UTC(year));
  return found;
}

function lineChart(box, spec) {
  const width = Math.max(box.clientWidth, 260);
  const height = Math.round(Math.max(220, Math.min(380, width * 0.5)));
  const edge = { left: 52, right: 14, top: 10, bottom: 42 };
  const across = spec.x.log ? Math.log : (value) => value;
  const xs = spec.lines.flatMap((line) => line.x);
  const ys = spec.lines.flatMap((line) => line.y).concat(spec.level ? [spec.level.value] : []).filter((value) => value !== null);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  const pad = 0.04 * (Math.max(...ys) - Math.min(...ys) || 1);
  const [y0, y1] = [Math.min(...ys) - pad, Math.max(...ys) + pad];
  const px = (value) => edge.left + ((across(value) - across(x0)) / (across(x1) - across(x0) || 1)) * (width - edge.left - edge.right);
  const py = (value) => height - edge.bottom - ((value - y0) / (y1 - y0)) * (height - edge.top - edge.bottom);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", tabindex: "0", role: "img", "aria-label": spec.label });

  const xTicks = spec.x.date ? yearTicks(x0, x1) : spec.x.log ? logTicks(x0, x1) : ticks(x0, x1, Math.max(3, Math.floor(width / 110)));
  const writeX = spec.x.format || plain(digits(xTicks));
  let last = -Infinity;
  for (const tick of xTicks) {
    const x = px(tick);
    root.append(svg("line", { class: "grid", x1: x, x2: x, y1: edge.top, y2: height - edge.bottom }));
    if (x - last < 34) continue;
    root.append(svg("text", { class: "tick", x, y: height - edge.bottom + 16, "text-anchor": "middle" }, writeX(tick)));
    last = x;
  }
  const yTicks = ticks(y0, y1, 7), writeY = plain(digits(yTicks));
  for (const tick of yTicks) {
    root.append(svg("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: py(tick), y2: py(tick) }));
    root.append(svg("text", { class: "tick", x: edge.left - 6, y: py(tick) + 4, "text-anchor": "end" }, writeY(tick)));
  }
  root.append(svg("text", { class: "axis", x: (edge.left + width - edge.right) / 2, y: height - 6, "text-anchor": "middle" }, spec.x.label));
  if (spec.level) {
    root.append(svg("line", { class: "level", x1: edge.left, x2: width - edge.right, y1: py(spec.level.value), y2: py(spec.level.value) }));
    root.append(svg("text", { class: "tick", x: width - edge.right, y: py(spec.level.value) - 5, "text-anchor": "end" }, spec.level.name));
  }
  for (const line of spec.lines) {
    let path = "", open = false;
    line.x.forEach((value, k) => {
      if (line.y[k] === null) { open = false; return; }
      path += !open ? `M${px(value).toFixed(1)} ${py(line.y[k]).toFixed(1)}`
        : `${line.step ? `H${px(value).toFixed(1)}V` : `L${px(value).toFixed(1)} `}${py(line.y[k]).toFixed(1)}`;
      open = true;
    });
    root.append(svg("path", { class: `line c${line.tone}${line.strong ? " strong" : ""}`, d: path, "stroke-dasharray": line.dash || null }));
  }
  const marker = svg("line", { class: "marker", y1: edge.top, y2: height - edge.bottom, visibility: "hidden" });
  const cursor = svg("line", { class: "cursor", y1: edge.top, y2: height - edge.bottom, visibility: "hidden" });
  root.append(marker, cursor);

  const grid = spec.lines[0].x;
  let place = -1;
  const read = (k, clientX, clientY) => {
    place = Math.max(0, Math.min(grid.length - 1, k));
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, px(grid[place]));
    cursor.setAttribute("visibility", "visible");
    const rows = spec.lines.map((line) => el("tr", {}, el("td", {}, swatch(line)), el("td", {}, line.name), el("td", { class: "num" }, line.y[place] === null ? "–" : spec.y.read(line.y[place]))));
    showHint([el("strong", {}, spec.x.read(grid[place])), el("table", {}, el("tbody", {}, rows))], clientX, clientY);
  };
  const leave = () => { cursor.setAttribute("visibility", "hidden"); hideHint(); };
  root.addEventListener("pointermove", (event) => {
    const frame = root.getBoundingClientRect();
    const x = ((event.clientX - frame.left) / frame.width) * width;
    let best = 0;
    grid.forEach((value, k) => { if (Math.abs(px(value) - x) < Math.abs(px(grid[best]) - x)) best = k; });
    read(best, event.clientX, event.clientY);
  });
  root.addEventListener("pointerleave", leave);
  root.addEventListener("blur", leave);
  root.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const frame = root.getBoundingClientRect();
    const next = place < 0 ? 0 : place + step;
    read(next, frame.left + (px(grid[Math.max(0, Math.min(grid.length - 1, next))]) / width) * frame.width, frame.top + frame.height / 3);
  });
  const key = el("ul", { class: "key" }, spec.lines.map((line) => el("li", {}, swatch(line), line.name)));
  box.replaceChildren(root, key);
  return {
    mark(x) {
      for (const end of ["x1", "x2"]) marker.setAttribute(end, px(x));
      marker.setAttribute("visibility", "visible");
    },
  };
}

const swatch = (line) => svg("svg", { class: "swatch", viewBox: "0 0 28 10", width: 28, height: 10, "aria-hidden": "true" },
  svg("line", { class: `line c${line.tone}${line.strong ? " strong" : ""}`, x1: 0, x2: 28, y1: 5, y2: 5, "stroke-dasharray": line.dash || null }));

function histogram(bins, top) {
  const width = 460, height = 170, base = 130, room = width / bins.length;
  const most = Math.max(...bins, 1);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot bars", role: "img", "aria-label": `Companies by value, from 0 to ${figure(top)}` });
  bins.forEach((count, k) => {
    const tall = (count / most) * (base - 18);
    root.append(svg("rect", { x: k * room + 1, y: base - tall, width: room - 2, height: tall }, svg("title", {}, `${counted(count, "company", "companies")}, ${figure((k * top) / bins.length)} to ${figure(((k + 1) * top) / bins.length)}`)));
    if (count) root.append(svg("text", { class: "tick", x: (k + 0.5) * room, y: base - tall - 4, "text-anchor": "middle" }, String(count)));
  });
  root.append(svg("line", { class: "level", x1: 0, x2: width, y1: base, y2: base }));
  for (const share of [0, 0.5, 1]) {
    const anchor = ["start", "middle", "end"][2 * share];
    root.append(svg("text", { class: "tick", x: share * width, y: base + 16, "text-anchor": anchor }, figure(share * top)));
  }
  root.append(svg("text", { class: "axis", x: width / 2, y: height - 6, "text-anchor": "middle" }, "weight in the description"));
  return root;
}
