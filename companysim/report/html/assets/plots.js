// The four charts of the report, drawn again when their width changes.
const method = (name, x, y, more = {}) => ({ name: data.names[name] || name, x, y, tone: TONES[name] ?? 6, dash: DASHES[name] ?? "", strong: name === "sae", ...more });
const plain = (digits) => (value) => figure(value, digits);
const day = (time) => new Date(time).toISOString().slice(0, 10);

const PLOTS = {
  frontier() {
    const { share, lines, all } = data.frontier;
    const x = share.map((value) => 100 * value);
    return {
      label: "Mean correlation of the most similar pairs against the share of pairs, one line for each grouping",
      lines: Object.entries(lines).map(([name, y]) => method(name, x, y)),
      level: { value: all, name: "all pairs" },
      x: { log: true, label: "share of all pairs looked at, %", format: (value) => String(+value.toPrecision(2)), read: (value) => `${+value.toPrecision(3)} % of pairs` },
      y: { read: plain(3) },
    };
  },
  theta() {
    const t = data.theta;
    const line = (name, key, tone, dash, strong) => ({ name, x: t.theta, y: t[key], tone, dash, strong, step: true });
    return {
      label: "MC, pair-weighted correlation and coverage at every threshold",
      lines: [line("MC", "mean_correlation", 0, "", true), line("pair-weighted", "pair_weighted", 1, "", false), line("coverage", "coverage", 2, "6 3", false)],
      x: { label: "theta (cosine distance)", read: (value) => `theta ${figure(value, 4)}` },
      y: { read: plain(3) },
    };
  },
  equity: () => books("net", "Cumulative net return of every book"),
  drawdown: () => books("drawdown", "Drawdown of every book"),
};

function books(key, text) {
  const x = data.equity.date.map((date) => Date.parse(date));
  return {
    label: text,
    lines: Object.entries(data.equity.books).map(([name, book]) => method(name, x, book[key].map((value) => 100 * value))),
    level: { value: 0, name: "" },
    x: { date: true, label: "", format: (value) => String(new Date(value).getUTCFullYear()), read: day },
    y: { read: (value) => `${figure(value, 2)} %` },
  };
}

const drawn = {};
function drawCharts() {
  for (const box of document.querySelectorAll("[data-chart]")) {
    const name = box.dataset.chart;
    if (!box.clientWidth || (drawn[name] && drawn[name].width === box.clientWidth)) continue;
    const spec = PLOTS[name]();
    if (!spec.lines.length || !spec.lines[0].x.length) { box.replaceChildren(el("p", { class: "quiet" }, "Nothing to draw.")); continue; }
    drawn[name] = { width: box.clientWidth, chart: lineChart(box, spec) };
  }
}
