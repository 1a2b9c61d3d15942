// The chosen company: what it does, what its description is about, its peers and why.
function choose(i, scroll = false) {
  const target = `#company/${encodeURIComponent(data.companies[i].ticker)}`;
  if (location.hash === target) showCompany(i, scroll);
  else { pending.scroll = scroll; location.hash = target; }
}
const pending = { scroll: true };

function showCompany(i, scroll) {
  map.chosen = i;
  map.at = i;
  decorate();
  const company = data.companies[i];
  const codes = [company.sic && `SIC ${company.sic} ${company.division}`, company.gics && `GICS ${company.gics} ${company.sector}`].filter(Boolean).join(", ");
  byId("company").replaceChildren(
    el("h3", {}, `${company.ticker}  ${company.name}`),
    el("p", { class: "quiet" }, [codes, `described ${company.filed}`].filter(Boolean).join("; ")),
    company.cluster >= 0 ? el("p", {}, "In ", el("a", { href: `#cluster/${company.cluster}` }, `cluster ${company.cluster}`), ` of ${data.clusters[company.cluster].members.length} companies`) : el("p", { class: "quiet" }, "In no cluster at the run's theta."),
    el("p", { class: "description" }, company.text),
    el("p", {}, "Stands out by ", company.latents.map(latentLink)),
    el("h4", {}, "Peers"),
    el("ol", { class: "peers" }, data.peers[i].map((peer) => peerItem(company, peer))),
    el("p", { class: "quiet" }, `Similarity: cosine of the SAE vectors. Correlation: daily returns ${data.years}. Reasons: the latents both share most beyond the usual.`),
  );
  if (scroll) byId("map").scrollIntoView();
}

function peerItem(company, peer) {
  const other = data.companies[peer.i];
  const same = [company.sic && company.sic === other.sic && "same SIC", company.gics && company.gics === other.gics && "same GICS"].filter(Boolean);
  const facts = [`similarity ${figure(peer.s)}`, `correlation ${figure(peer.r, 2)}`, ...same].join(", ");
  return el("li", {}, companyLink(peer.i), ` ${other.name}`, el("span", { class: "quiet block" }, facts), el("span", { class: "block" }, peer.why.map(latentLink)));
}
