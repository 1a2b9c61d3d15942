// The map: one mark a company, its colour and shape by group, lines to the peers of the chosen one.
const map = { view: null, whole: null, chosen: -1, at: -1, kinds: [], marks: [], groups: [], by: "cluster", muted: null };
const spot = data.companies.map((company) => ({ x: 1000 * company.x, y: 1000 * company.y }));

function buildMap() {
  const xs = spot.map((p) => p.x), ys = spot.map((p) => p.y), pad = 30;
  const [left, top] = [Math.min(...xs) - pad, Math.min(...ys) - pad];
  map.whole = { x: left, y: top, w: Math.max(...xs) + pad - left, h: Math.max(...ys) + pad - top };
  map.view = { ...map.whole };
  map.lines = svg("g", { class: "links" });
  map.marks = spot.map((_, i) => svg("path", { "data-i": i }));
  map.ring = svg("path", { class: "ring", d: SHAPES[0], visibility: "hidden" });
  map.text = svg("text", { class: "name", visibility: "hidden" });
  map.root = svg("svg", { id: "plane", tabindex: "0", role: "application", "aria-roledescription": "map",
    "aria-label": `Map of ${spot.length} companies. Arrow keys move from company to company, Enter chooses one.`, "aria-describedby": "map-says" },
    map.lines, map.marks, map.ring, map.text);
  map.says = el("p", { id: "map-says", class: "hidden", "aria-live": "polite" });
  byId("canvas").replaceChildren(map.root, map.says);
  map.root.addEventListener("pointermove", (event) => {
    const i = event.target.dataset.i;
    if (drag.from || i === undefined) { hideHint(); return; }
    showHint(companyHint(+i), event.clientX, event.clientY);
  });
  map.root.addEventListener("pointerleave", hideHint);
  map.root.addEventListener("click", (event) => { if (!drag.moved && event.target.dataset.i !== undefined) choose(+event.target.dataset.i); });
  map.root.addEventListener("keydown", mapKey);
  map.root.addEventListener("blur", hideHint);
  map.root.addEventListener("wheel", (event) => { if (event.ctrlKey || event.metaKey) { event.preventDefault(); zoom(event.deltaY < 0 ? 0.8 : 1.25, mapPoint(event)); } }, { passive: false });
  bindDrag();
  byId("closer").addEventListener("click", () => zoom(0.7));
  byId("farther").addEventListener("click", () => zoom(1 / 0.7));
  byId("whole").addEventListener("click", () => { map.view = { ...map.whole }; place(); });
  byId("colour").addEventListener("change", (event) => { map.by = event.target.value; colourMap(); });
  colourMap();
}

// Marks keep their size on the screen whatever the zoom.
function place() {
  const v = map.view;
  map.root.setAttribute("viewBox", `${v.x} ${v.y} ${v.w} ${v.h}`);
  map.unit = v.w / Math.max(map.root.clientWidth, 200);
  const size = (spot.length > 800 ? 3.2 : 4.6) * map.unit;
  map.marks.forEach((mark, i) => mark.setAttribute("transform", `translate(${spot[i].x} ${spot[i].y}) scale(${(map.kinds[i] === null ? 0.6 : 1) * size})`));
  decorate();
}

function decorate() {
  const i = map.chosen;
  const shown = i < 0 ? "hidden" : "visible";
  map.ring.setAttribute("visibility", shown);
  map.text.setAttribute("visibility", shown);
  map.lines.replaceChildren();
  if (i < 0) return;
  const right = spot[i].x > map.view.x + 0.85 * map.view.w;
  map.ring.setAttribute("transform", `translate(${spot[i].x} ${spot[i].y}) scale(${9 * map.unit})`);
  map.text.textContent = data.companies[i].ticker;
  for (const [name, value] of Object.entries({ x: spot[i].x + (right ? -12 : 12) * map.unit, y: spot[i].y - 8 * map.unit, "font-size": 14 * map.unit, "stroke-width": 3 * map.unit, "text-anchor": right ? "end" : "start" })) map.text.setAttribute(name, value);
  for (const peer of data.peers[i]) map.lines.append(svg("line", { x1: spot[i].x, y1: spot[i].y, x2: spot[peer.i].x, y2: spot[peer.i].y, "stroke-width": map.unit }));
}

// Groups by what the reader chose; the largest first get a colour and a shape, the rest and the ungrouped are dots.
function colourMap() {
  const names = data.companies.map((company, i) => (map.by === "cluster" ? thetaCluster(i) : company[map.by]));
  const sizes = new Map();
  names.forEach((name) => { if (name !== "" && name !== -1) sizes.set(name, (sizes.get(name) || 0) + 1); });
  map.groups = [...sizes.entries()].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([name, size], k) => ({ name, size, kind: k < KINDS ? k : null }));
  const kind = new Map(map.groups.map((group) => [group.name, group.kind]));
  map.names = names;
  map.kinds = names.map((name) => kind.get(name) ?? null);
  map.muted = null;
  paint();
  drawLegend();
  place();
}

function paint() {
  map.marks.forEach((mark, i) => {
    const { className, shape } = look(map.kinds[i]);
    mark.setAttribute("d", shape);
    mark.setAttribute("class", `mark ${className}${map.muted !== null && map.names[i] !== map.muted ? " muted" : ""}`);
  });
}

function drawLegend() {
  const entry = (group) => {
    const { className, shape } = look(group.kind);
    const sign = svg("svg", { class: "sign", viewBox: "-1.6 -1.6 3.2 3.2", width: 14, height: 14, "aria-hidden": "true" }, svg("path", { d: shape, class: `mark ${className}` }));
    const press = (event) => {
      map.muted = map.muted === group.name ? null : group.name;
      for (const other of byId("legend").querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
      event.currentTarget.setAttribute("aria-pressed", String(map.muted !== null));
      paint();
    };
    return el("li", {}, el("button", { type: "button", "aria-pressed": "false", click: press }, sign, groupText(group)));
  };
  const grouped = map.groups.reduce((sum, group) => sum + group.size, 0);
  const shown = map.groups.slice(0, 12), rest = map.groups.slice(12);
  byId("legend").replaceChildren(
    el("ul", {}, shown.map(entry)),
    rest.length ? el("details", {}, el("summary", {}, `${rest.length} more`), el("ul", {}, rest.map(entry))) : "",
    el("p", { class: "quiet" }, `${counted(spot.length - grouped, "company", "companies")} in no group (small ${spot.length - grouped === 1 ? "dot" : "dots"}). Press a group to see it alone.`),
  );
}

function groupText(group) {
  if (map.by !== "cluster") return `${group.name} (${group.size})`;
  const tickers = data.companies.filter((_, i) => map.names[i] === group.name).map((company) => company.ticker);
  return `${tickers.slice(0, 4).join(" ")}${tickers.length > 4 ? " …" : ""} (${group.size})`;
}

function companyHint(i) {
  const company = data.companies[i];
  const text = company.text.length > 260 ? `${company.text.slice(0, 260).replace(/\s+\S*$/, "")} …` : company.text;
  return [el("strong", {}, `${company.ticker}  ${company.name}`), el("p", {}, text), el("p", { class: "quiet" }, company.latents.map(label).join(" | "))];
}

function mapKey(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.key === "Enter" && map.at >= 0) { choose(map.at); return; }
  if (event.key === "Escape") { hideHint(); return; }
  if (event.key === "+" || event.key === "-") { zoom(event.key === "+" ? 0.7 : 1 / 0.7, map.at >= 0 ? spot[map.at] : undefined); return; }
  if (!step) return;
  event.preventDefault();
  const from = map.at >= 0 ? map.at : map.chosen >= 0 ? map.chosen : 0;
  let best = -1, nearest = Infinity;
  spot.forEach((p, i) => {
    const dx = p.x - spot[from].x, dy = p.y - spot[from].y;
    const ahead = dx * step[0] + dy * step[1], aside = Math.abs(dx * step[1]) + Math.abs(dy * step[0]);
    if (ahead > 0 && ahead + 2 * aside < nearest) { nearest = ahead + 2 * aside; best = i; }
  });
  if (best < 0) return;
  map.at = best;
  map.says.textContent = `${data.companies[best].ticker}, ${data.companies[best].name}`;
  const frame = map.marks[best].getBoundingClientRect();
  showHint(companyHint(best), frame.right, frame.bottom);
}

function mapPoint(event) {
  const frame = map.root.getBoundingClientRect();
  return { x: map.view.x + ((event.clientX - frame.left) / frame.width) * map.view.w, y: map.view.y + ((event.clientY - frame.top) / frame.height) * map.view.h };
}

function zoom(factor, centre) {
  const v = map.view, about = centre || { x: v.x + v.w / 2, y: v.y + v.h / 2 };
  const f = Math.max(0.03 * map.whole.w, Math.min(map.whole.w, v.w * factor)) / v.w;
  map.view = { x: about.x - (about.x - v.x) * f, y: about.y - (about.y - v.y) * f, w: v.w * f, h: v.h * f };
  if (v.w * f >= map.whole.w) map.view = { ...map.whole };
  place();
}

// Dragging moves a map that is zoomed in; a whole map leaves the finger to the page.
const drag = { from: null, moved: false };
function bindDrag() {
  map.root.addEventListener("pointerdown", (event) => { drag.moved = false; if (map.view.w < map.whole.w) drag.from = { at: mapPoint(event), id: event.pointerId }; });
  window.addEventListener("pointermove", (event) => {
    if (!drag.from) return;
    const now = mapPoint(event), dx = drag.from.at.x - now.x, dy = drag.from.at.y - now.y;
    if (Math.abs(dx) + Math.abs(dy) < 4 * map.unit && !drag.moved) return;
    drag.moved = true;
    map.view = { ...map.view, x: map.view.x + dx, y: map.view.y + dy };
    map.root.setAttribute("viewBox", `${map.view.x} ${map.view.y} ${map.view.w} ${map.view.h}`);
  });
  for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, () => { drag.from = null; });
}
