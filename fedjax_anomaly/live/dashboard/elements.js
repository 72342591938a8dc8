// Elements of the page, each made once and then brought up to date.

export const MARKS = { critical: "▲", warning: "◆" };

/** An element, or one of SVG where its tag begins with `svg:`. Children that are strings become text. */
export function make(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setSeverity(node, severity) {
  setText(node, severity ? `${MARKS[severity]} ${severity}` : "");
  node.className = `severity ${severity ?? ""}`;
}

/** Makes the children of `parent` those of `items`, by key. What stays is kept, and so is its focus. */
export function arrange(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  items.forEach((item, i) => {
    const key = String(keyOf(item));
    const node = known.get(key) ?? create(item);
    known.delete(key);
    node.dataset.key = key;
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
    update(node, item);
  });
  for (const node of known.values()) node.remove();
}

export function showFacts(list, facts) {
  const create = ([name]) => make("div", {}, make("dt", {}, name), make("dd", {}, make("span"), make("small")));
  const update = (node, [, value, note = "", kind = ""]) => {
    const [main, small] = node.lastChild.children;
    node.lastChild.className = kind;
    setText(main, value);
    setText(small, note);
  };
  arrange(list, facts, ([name]) => name, create, update);
}

export function gauge() {
  const track = make("svg:rect", { class: "track", y: 3, width: 52, height: 4, rx: 2 });
  const fill = make("svg:rect", { class: "fill", y: 3, height: 4, rx: 2 });
  const tick = make("svg:path", { class: "tick", d: "M32 0v10" });
  return make("svg:svg", { class: "gauge", viewBox: "0 0 52 10", "aria-hidden": "true" }, track, fill, tick);
}

/** Three decades below the threshold, which is at 32, and two above. */
export function setGauge(svg, ratio) {
  const width = ratio > 0 ? Math.min(Math.max(32 + (Math.log10(ratio) * 32) / 3, 2), 52) : 0;
  svg.children[1].setAttribute("width", width.toFixed(1));
  svg.classList.toggle("over", ratio > 1);
}

export function sharesOf(incident) {
  const rows = incident.shares.map(([name, share]) => {
    const bar = make("svg:svg", { class: "bar", viewBox: "0 0 64 8", "aria-hidden": "true" });
    bar.append(make("svg:rect", { width: (64 * share).toFixed(1), height: 8 }));
    return make("li", {}, make("b", {}, `${Math.round(100 * share)} %`), bar, make("span", { title: name }, name));
  });
  return make("ul", { class: "shares" }, ...rows);
}
