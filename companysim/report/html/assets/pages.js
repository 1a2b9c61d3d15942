// Tables of clusters and latents, and a page for each.
const METHODS = { terms: "terms that go with it in the texts of the run, chosen by a formula" };

const RULES = { precision: "precision of the rule", recall: "recall of the rule", held_out_precision: "precision on companies held out", held_out_recall: "recall on companies held out" };

function filteredTable(table, input, columns, rows) {
  const body = el("tbody", {}, rows.map((row) => el("tr", {}, row.cells.map((cell, k) => el(k ? "td" : "th", k ? { class: columns[k].num ? "num" : null } : { scope: "row" }, cell)))));
  table.replaceChildren(el("thead", {}, el("tr", {}, columns.map((column) => el("th", { scope: "col", class: column.num ? "num" : null }, column.name)))), body);
  input.addEventListener("input", () => {
    const text = input.value.trim().toLowerCase();
    rows.forEach((row, k) => { body.children[k].hidden = !row.text.includes(text); });
  });
}

function buildTables() {
  filteredTable(byId("cluster-table"), byId("filter-clusters"),
    [{ name: "cluster" }, { name: "size", num: true }, { name: "correlation", num: true }, { name: "companies" }, { name: "what they share" }],
    data.clusters.map((cluster, k) => {
      const tickers = cluster.members.map((i) => data.companies[i].ticker);
      const shared = cluster.latents.slice(0, 2);
      const names = cluster.members.map((i) => data.companies[i].name);
      return {
        cells: [el("a", { href: `#cluster/${k}` }, `cluster ${k}`), String(tickers.length), figure(cluster.mean_correlation), `${tickers.slice(0, 12).join(" ")}${tickers.length > 12 ? ` … and ${tickers.length - 12} more` : ""}`, shared.map((entry) => latentLink(entry.latent))],
        text: [...tickers, ...names, ...shared.map((entry) => label(entry.latent))].join(" ").toLowerCase(),
      };
    }));
  const latents = Object.entries(data.latents).sort((a, b) => b[1].clusters.length - a[1].clusters.length || b[1].named - a[1].named || a[0] - b[0]);
  filteredTable(byId("latent-table"), byId("filter-latents"),
    [{ name: "latent" }, { name: "label" }, { name: "clusters", num: true }, { name: "reasons", num: true }, { name: "active companies", num: true }],
    latents.map(([number, latent]) => ({
      cells: [el("a", { href: `#latent/${number}` }, number), latent.label || "no label", String(latent.clusters.length), String(latent.named), String(latent.active)],
      text: `${number} ${latent.label}`.toLowerCase(),
    })));
}

const back = () => el("p", { class: "back" }, el("a", { href: "#map" }, "← report"));

function clusterPage(k) {
  const cluster = data.clusters[k];
  const facts = [["companies", String(cluster.members.length)], [`mean correlation, monthly returns ${data.years}`, figure(cluster.mean_correlation)]];
  if (cluster.rule) facts.push(["rule", cluster.rule]);
  for (const [key, name] of Object.entries(RULES)) if (cluster[key] !== null) facts.push([name, percent(cluster[key])]);
  const bar = (value, name) => svg("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: name, width: 100 * value, height: 8 }));
  return [
    back(), el("h1", {}, `Cluster ${k}`), definitions(facts),
    el("h2", {}, "What its companies share"),
    el("p", { class: "quiet" }, "Share of the cluster's companies, and of all others, in whose description the latent is present: three times as strong as the mean latent that fires there, or more."),
    !cluster.latents.length ? el("p", {}, "No latent sets it apart.") : el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ["latent", "inside", "", "outside", ""].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, cluster.latents.map((entry) => el("tr", {}, el("td", {}, latentLink(entry.latent)), el("td", { class: "num" }, percent(entry.inside)), el("td", {}, bar(entry.inside, "inside")), el("td", { class: "num" }, percent(entry.outside)), el("td", {}, bar(entry.outside, "outside"))))))),
    el("h2", {}, "Its companies"),
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ["ticker", "company", "SIC division", "GICS sector"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, cluster.members.map((i) => el("tr", {}, el("td", {}, companyLink(i)), el("td", {}, data.companies[i].name), el("td", {}, data.companies[i].division || "–"), el("td", {}, data.companies[i].sector || "–")))))),
    el("p", {}, k > 0 ? el("a", { href: `#cluster/${k - 1}` }, "← larger") : "", " ", k + 1 < data.clusters.length ? el("a", { href: `#cluster/${k + 1}` }, "smaller →") : ""),
  ];
}

function latentPage(number) {
  const latent = data.latents[number];
  const made = METHODS[latent.method] || latent.method;
  return [
    back(), el("h1", {}, `Latent ${number}: ${latent.label || "no label"}`),
    definitions([["label made from", made], ...(latent.support === null ? [] : [["support of the label", `its terms occur in ${percent(latent.support)} of the passages`]]), ["active in", `${latent.active} of ${data.companies.length} companies`], ["reason for peers", counted(latent.named, "time")]]),
    el("p", {}, "Defines ", latent.clusters.length ? latent.clusters.map((k) => el("a", { class: "chip", href: `#cluster/${k}` }, `cluster ${k}`)) : "no cluster"),
    el("h2", {}, "Its values"), el("p", { class: "quiet" }, "Companies in whose description it is active, by its weight there (its entry of the description's unit vector)."), histogram(latent.bins, latent.top),
    el("h2", {}, "Strongest passages"), el("p", { class: "quiet" }, "The token on which it fires most is marked; one passage a company."),
    latent.snippets.length ? el("ul", { class: "snippets" }, latent.snippets.map((snippet) => el("li", {}, el("blockquote", {}, snippet.parts[0], el("mark", {}, snippet.parts[1]), snippet.parts[2]), el("span", { class: "quiet" }, companyLink(snippet.i), ` ${data.companies[snippet.i].name}, activation ${figure(snippet.v, 1)}`)))) : el("p", {}, "None kept."),
    el("h2", {}, "Strongest companies"),
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "ticker"), el("th", { scope: "col" }, "company"), el("th", { scope: "col", class: "num" }, "weight"))),
      el("tbody", {}, latent.strongest.map(([i, value]) => el("tr", {}, el("td", {}, companyLink(i)), el("td", {}, data.companies[i].name), el("td", { class: "num" }, figure(value))))))),
  ];
}

const definitions = (facts) => el("dl", {}, facts.map(([key, value]) => [el("dt", {}, key), el("dd", {}, value)]));
