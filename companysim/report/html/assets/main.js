// Threshold slider, routes and the start.
const joined = { step: data.theta.chosen, cluster: null };

// Clusters after the first merges of the tree, numbered by first member; the run's own numbers at its own theta.
function thetaCluster(i) {
  if (joined.step === data.theta.chosen) return data.companies[i].cluster;
  return joined.cluster[i];
}

function joinTo(step) {
  const parent = data.companies.map((_, i) => i);
  const root = (i) => { while (parent[i] !== i) { parent[i] = parent[parent[i]]; i = parent[i]; } return i; };
  for (let k = 0; k < data.theta.edges[step]; k += 1) {
    const a = root(data.theta.left[k]), b = root(data.theta.right[k]);
    parent[Math.max(a, b)] = Math.min(a, b);
  }
  const roots = parent.map((_, i) => root(i));
  const sizes = new Map();
  roots.forEach((r) => sizes.set(r, (sizes.get(r) || 0) + 1));
  joined.step = step;
  joined.cluster = roots.map((r) => (sizes.get(r) > 1 ? r : -1));
}

function showTheta() {
  const t = data.theta, k = joined.step;
  byId("theta").value = k;
  byId("theta").setAttribute("aria-valuetext", `theta ${figure(t.theta[k], 4)}`);
  const facts = [["theta", figure(t.theta[k], 4)], ["MC", figure(t.mean_correlation[k])], ["pair-weighted", figure(t.pair_weighted[k])], ["coverage", percent(t.coverage[k])],
    ["clusters", String(Math.round(t.clusters[k]))], ["largest", String(Math.round(t.largest[k]))], ["share of pairs", percent(t.share_of_pairs[k], 2)]];
  byId("theta-figures").replaceChildren(...facts.map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, value))));
  if (drawn.theta) drawn.theta.chart.mark(t.theta[k]);
}

function buildTheta() {
  const slider = byId("theta");
  slider.max = data.theta.theta.length - 1;
  const move = (step) => { joinTo(step); showTheta(); if (map.by === "cluster") colourMap(); };
  slider.addEventListener("input", () => move(+slider.value));
  byId("chosen-theta").addEventListener("click", () => move(data.theta.chosen));
}

function address() {
  try { return decodeURIComponent(location.hash.slice(1)).split(/\/(.*)/s); } catch { return [""]; } // not an address of ours
}

function route() {
  const [kind, value] = address();
  const number = /^\d+$/.test(value) ? value : null;
  const page = byId("page");
  const content = kind === "cluster" && data.clusters[number] ? clusterPage(+number) : kind === "latent" && data.latents[number] ? latentPage(number) : null;
  page.hidden = !content;
  byId("report").hidden = Boolean(content);
  hideHint();
  if (content) {
    page.replaceChildren(...content);
    window.scrollTo(0, 0);
    byId("content").focus({ preventScroll: true });
    return;
  }
  page.replaceChildren();
  drawCharts();
  place();
  showTheta();
  const i = kind === "company" ? data.companies.findIndex((company) => company.ticker === value) : -1;
  if (i >= 0) showCompany(i, pending.scroll);
  else if (kind && byId(kind)) byId(kind).scrollIntoView();
  pending.scroll = true;
}

buildMap();
buildSearch();
buildTables();
buildTheta();
window.addEventListener("hashchange", route);
new ResizeObserver(() => { if (!byId("report").hidden) { drawCharts(); place(); showTheta(); } }).observe(byId("report"));
route();
document.documentElement.dataset.ready = "yes";
