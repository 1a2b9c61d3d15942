"use strict";
// Everything shown comes as text: nothing of a table is ever read as markup.
const byId = (id) => document.getElementById(id);
const el = (name, attributes, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) if (typeof value === "function") node.addEventListener(key, value); else node.setAttribute(key, value);
  node.append(...children);
  return node;
};
const part = encodeURIComponent;
const state = { runs: [], sort: "", order: "ascending", offset: 0, asked: 0, compared: [] };
const LIMIT = 50;

async function ask(path) {
  const answer = await fetch(path);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

const shown = (value) => (value === null ? "" : typeof value === "number" && !Number.isInteger(value) ? String(+value.toPrecision(5)) : String(value));

function cell(column, value) {
  if (column === "ticker" && currentRun().report) return el("td", {}, el("a", { href: `/report/${part(byId("run").value)}#company/${part(value)}` }, shown(value)));
  const text = shown(value);
  return el("td", { class: typeof value === "number" ? "num" : text.length > 60 ? "long" : text.length < 14 ? "short" : "" }, text.length > 160 ? `${text.slice(0, 160).replace(/\s+\S*$/, "")} …` : text);
}

const currentRun = () => state.runs.find((run) => run.name === byId("run").value);

async function showTable() {
  const run = byId("run").value, table = byId("table").value, search = byId("search").value.trim();
  const query = new URLSearchParams({ search, sort: state.sort, order: state.order, limit: LIMIT, offset: state.offset });
  const asked = (state.asked += 1);
  let page;
  try { page = await ask(`/api/runs/${part(run)}/${part(table)}?${query}`); } catch (error) { byId("said").textContent = error.message; return; }
  if (asked !== state.asked) return; // a later question has been asked meanwhile
  const heading = (column) => el("th", { scope: "col", "aria-sort": column === state.sort ? state.order : "none" }, el("button", { type: "button", click: () => {
    state.order = state.sort === column && state.order === "ascending" ? "descending" : "ascending";
    state.sort = column; state.offset = 0; showTable();
  } }, column));
  byId("rows").replaceChildren(el("thead", {}, el("tr", {}, ...page.columns.map(heading))), el("tbody", {}, ...page.rows.map((row) => el("tr", {}, ...row.map((value, k) => cell(page.columns[k], value))))));
  const last = state.offset + page.rows.length;
  byId("said").textContent = page.total ? `Rows ${state.offset + 1} to ${last} of ${page.total}` : "No row holds that.";
  byId("previous").disabled = state.offset === 0;
  byId("next").disabled = last >= page.total;
  for (const link of byId("downloads").querySelectorAll("a")) link.href = `/download/${part(run)}/${part(table)}.${link.textContent}?${new URLSearchParams({ search })}`;
}

async function compareRuns() {
  const table = byId("compared").value, other = byId("other").value;
  if (!other) { byId("comparison").replaceChildren(el("caption", {}, "There is no other run beside this one.")); return; }
  try { state.compared = (await ask(`/api/compare?${new URLSearchParams({ first: byId("run").value, second: other, table })}`)).rows; }
  catch (error) { byId("comparison").replaceChildren(el("caption", {}, error.message)); return; }
  const figures = [...new Set(state.compared.map((row) => row[1]))];
  const before = byId("figure").value;
  byId("figure").replaceChildren(...figures.map((name) => el("option", {}, name)));
  byId("figure").value = [before, "pair_weighted", "sharpe_net"].find((name) => figures.includes(name)) || figures[0];
  showComparison();
}

function showComparison() {
  const rows = state.compared.filter((row) => row[1] === byId("figure").value);
  const head = ["grouping", byId("run").value, byId("other").value, "difference"];
  byId("comparison").replaceChildren(el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.map(([grouping, , first, second, difference]) => el("tr", {}, el("th", { scope: "row" }, grouping), ...[first, second, difference].map((value) => el("td", { class: "num" }, shown(value)))))));
}

function openRun() {
  const run = currentRun(), table = byId("table").value;
  byId("table").replaceChildren(...run.tables.map((name) => el("option", {}, name)));
  byId("table").value = run.tables.includes(table) ? table : run.tables[0];
  byId("report").hidden = !run.report;
  byId("report").href = `/report/${part(run.name)}`;
  byId("other").replaceChildren(...state.runs.filter((other) => other !== run).map((other) => el("option", {}, other.name)));
  Object.assign(state, { sort: "", offset: 0 });
  showTable();
  compareRuns();
}

async function start() {
  const { runs, compared } = await ask("/api/runs");
  state.runs = runs;
  byId("run").replaceChildren(...runs.map((run) => el("option", { value: run.name }, `${run.name} (${run.companies} companies)`)));
  byId("compared").replaceChildren(...compared.map((name) => el("option", {}, name)));
  const fresh = () => { state.offset = 0; showTable(); };
  byId("run").addEventListener("change", openRun);
  byId("table").addEventListener("change", () => { state.sort = ""; fresh(); });
  byId("search").addEventListener("input", fresh);
  byId("previous").addEventListener("click", () => { state.offset -= LIMIT; showTable(); });
  byId("next").addEventListener("click", () => { state.offset += LIMIT; showTable(); });
  for (const id of ["other", "compared"]) byId(id).addEventListener("change", compareRuns);
  byId("figure").addEventListener("change", showComparison);
  openRun();
}
start();
