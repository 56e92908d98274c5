"use strict";
// The page is complete without this script: it adds sorting, and shows layers on top of each other instead of side by side.
document.documentElement.classList.add("js");

function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const key = (row, column) => {
    const value = row.cells[column].dataset.value;
    return value === undefined ? row.cells[column].textContent.trim() : value === "" ? null : Number(value);
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  function sort(column, direction) {
    const rows = [...original];
    if (direction !== "none") {
      const sign = direction === "ascending" ? 1 : -1;
      rows.sort((one, two) => {
        const [a, b] = [key(one, column), key(two, column)];
        // What does not exist stays last in both directions.
        return a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b);
      });
    }
    body.append(...rows);
  }

  const headers = [...table.tHead.rows[0].cells];
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const direction = next[header.getAttribute("aria-sort")];
      headers.forEach((other) => other.setAttribute("aria-sort", "none"));
      header.setAttribute("aria-sort", direction);
      sort(column, direction);
    });
  });
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// One slider over the layers of a view: between two of its marks both layers are seen through each other.
function slider(view, label) {
  const layers = [...view.querySelectorAll(".layer")];
  const names = layers.map((layer) => layer.dataset.layer);
  const input = element("input", { type: "range", min: 0, max: layers.length - 1, step: 0.25, value: 0 });
  input.setAttribute("aria-label", `Layer of ${label}`);
  const buttons = names.map((name, number) => {
    const button = element("button", { type: "button", textContent: name });
    button.addEventListener("click", () => show(number));
    return button;
  });

  function show(value) {
    input.value = value;
    const nearest = Math.round(value);
    const [low, high] = [Math.floor(value), Math.ceil(value)];
    const text = low === high ? names[low] : `${names[low]} and ${names[high]}`;
    input.setAttribute("aria-valuetext", text);
    layers.forEach((layer, number) => {
      const opacity = Math.min(1, Math.max(0, value - number + 1));
      layer.style.opacity = opacity;
      layer.setAttribute("aria-hidden", String(number !== nearest));
    });
    buttons.forEach((button, number) => button.setAttribute("aria-pressed", String(number === value)));
  }

  input.addEventListener("input", () => show(Number(input.value)));
  view.append(element("div", { className: "controls" }, input, element("div", { className: "layer-names" }, ...buttons)));
  show(0);
  return {
    layer: () => names[Math.round(Number(input.value))],
    // Layers of a region lack the run's name, which those of a whole mosaic may have.
    choose: (name) => show(Math.max(0, names.findIndex((mine) => mine === name || name.startsWith(`${mine},`)))),
  };
}

function mosaic(article) {
  const views = [...article.querySelectorAll("[data-view]")];
  const sliders = views.map((view) => slider(view, view.getAttribute("aria-label")));
  const choice = element("select", {}, ...views.map((view, number) =>
    element("option", { value: number, textContent: view.querySelector("h4").textContent })));
  choice.setAttribute("aria-label", `Part of ${article.querySelector("h3").textContent}`);
  let current = 0;

  function open(number) {
    sliders[number].choose(sliders[current].layer());
    current = number;
    choice.value = number;
    views.forEach((view, other) => { view.hidden = other !== number; });
  }

  choice.addEventListener("change", () => open(Number(choice.value)));
  article.querySelectorAll("[data-goto]").forEach((button) => button.addEventListener("click", () => {
    open(Number(button.dataset.goto));
    choice.focus();
  }));
  if (views.length > 1) {
    views[0].before(element("div", { className: "controls" }, choice));
  }
  open(0);
}

document.querySelectorAll("table[data-sortable]").forEach(sortable);
document.querySelectorAll("[data-mosaic]").forEach(mosaic);
