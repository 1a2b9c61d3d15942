"use strict";
// Text reaches the page as text nodes and attribute values only, never as markup.
const SVG = "http://www.w3.org/2000/svg";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

const el = (name, attributes, ...children) => filled(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) => filled(document.createElementNS(SVG, name), attributes, children);
const figure = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));
const percent = (value, digits = 0) => (value === null || value === undefined ? "–" : `${figure(100 * value, digits)} %`);

const counted = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

// Colours and shapes: both differ, so that no reader depends on colour.
const COLOURS = 7;
const SHAPES = [
  "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0z",
  "M-.9-.9h1.8v1.8h-1.8z",
  "M0-1.2L1.1.8h-2.2z",
  "M0-1.35L1.1 0 0 1.35-1.1 0z",
  "M0 1.2L1.1-.8h-2.2z",
  "M-.4-1.2h.8v.8h.8v.8h-.8v.8h-.8v-.8h-.8v-.8h.8z",
];
const KINDS = COLOURS * SHAPES.length;
const look = (kind) => (kind === null ? { className: "none", shape: SHAPES[0] }
  : { className: `c${kind % COLOURS}`, shape: SHAPES[Math.floor(kind / COLOURS) % SHAPES.length] });

const hint = byId("hint");
function showHint(content, x, y) {
  hint.replaceChildren(...content);
  hint.hidden = false;
  const room = 12;
  const left = Math.min(x + room, window.innerWidth - hint.offsetWidth - room);
  const below = y + room + hint.offsetHeight < window.innerHeight;
  hint.style.left = `${Math.max(room / 2, left)}px`;
  hint.style.top = `${Math.max(room / 2, below ? y + room : y - room - hint.offsetHeight)}px`;
}
const hideHint = () => { hint.hidden = true; };

const label = (latent) => (data.latents[latent] ? data.latents[latent].label : data.labels[latent]) || `latent ${latent}`;
const latentLink = (latent) => {
  const text = label(latent);
  return data.latents[latent] ? el("a", { class: "chip", href: `#latent/${latent}` }, text) : el("span", { class: "chip" }, text);
};
const companyLink = (i) => el("a", { href: `#company/${encodeURIComponent(data.companies[i].ticker)}` }, data.companies[i].ticker);
