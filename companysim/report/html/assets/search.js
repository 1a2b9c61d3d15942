// Search by ticker or name: a combobox, usable by keyboard alone.
function buildSearch() {
  const input = byId("search"), list = byId("found");
  const keys = data.companies.map((company) => ({ tickers: company.lines.toLowerCase().split(" ").concat(company.ticker.toLowerCase()), name: company.name.toLowerCase() }));
  let found = [], active = -1;

  const rank = (key, text) => {
    if (key.tickers.includes(text)) return 0;
    if (key.tickers.some((ticker) => ticker.startsWith(text))) return 1;
    if (key.name.startsWith(text)) return 2;
    return key.name.includes(text) ? 3 : 9;
  };
  const close = () => { list.hidden = true; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); active = -1; };
  const take = (i) => { input.value = ""; close(); choose(i, true); };
  const point = (k) => {
    active = k;
    [...list.children].forEach((item, place) => item.setAttribute("aria-selected", String(place === k)));
    if (k >= 0) input.setAttribute("aria-activedescendant", `found-${k}`); else input.removeAttribute("aria-activedescendant");
  };
  const look = () => {
    const text = input.value.trim().toLowerCase();
    found = text ? keys.map((key, i) => [rank(key, text), i]).filter(([place]) => place < 9).sort((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, 8).map(([, i]) => i) : [];
    const items = found.map((i, k) => el("li", { id: `found-${k}`, role: "option", "aria-selected": "false", pointerdown: (event) => { event.preventDefault(); take(i); } },
      el("strong", {}, data.companies[i].ticker), ` ${data.companies[i].name}`));
    list.replaceChildren(...(items.length ? items : [el("li", { class: "quiet", role: "option", "aria-disabled": "true" }, "no company of this run")]));
    list.hidden = !text;
    input.setAttribute("aria-expanded", String(Boolean(text)));
    point(found.length ? 0 : -1);
  };
  input.addEventListener("input", look);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length) { event.preventDefault(); point((active + step + found.length) % found.length); }
    else if (event.key === "Enter" && active >= 0) { event.preventDefault(); take(found[active]); }
    else if (event.key === "Escape") close();
  });
}
