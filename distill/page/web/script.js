"use strict";
// Filters, order, keys and theme. Without it the page is complete; the script only hides and moves rows.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const labelTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    labelTheme();
  });
  system.addEventListener("change", labelTheme);
  labelTheme();

  const list = document.getElementById("list");
  if (!list) return;
  const rows = all(".row", list);
  const buttons = all("[data-kind]");
  const meanings = all("[data-meaning]");
  const [find, order, count, none, unfold] = ["find", "order", "count", "none", "unfold"].map((id) => document.getElementById(id));
  // Class names, key, label and number of a row, in lower case, for the search.
  const texts = new Map(rows.map((row) => [row, [row.dataset.row, row.querySelector("h3").textContent,
    row.querySelector(".key").textContent, ...all(".bars .name", row).map((name) => name.textContent)].join("\n").toLowerCase()]));
  let kind = "all";

  const shown = () => all(".row", list).filter((row) => !row.hidden);

  // One row is in the Tab order; arrow keys reach the others.
  const makeCurrent = (row) => rows.forEach((each) => { each.tabIndex = each === row ? 0 : -1; });

  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const isKind = kind === "all" || row.dataset.kinds.split(" ").includes(kind);
      row.hidden = !(isKind && words.every((word) => texts.get(row).includes(word)));
    }
    const left = shown();
    count.textContent = left.length === 1 ? "1 row" : `${left.length} rows`;
    none.hidden = left.length > 0;
    if (left.length && !left.some((row) => row.tabIndex === 0)) makeCurrent(left[0]);
  };

  const choose = (chosen) => {
    kind = chosen;
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.kind === kind)));
    meanings.forEach((meaning) => { meaning.hidden = meaning.dataset.meaning !== kind; });
    filter();
  };

  // "-entropy": by data-entropy, descending. Rows without the value come last.
  const sort = () => {
    const descending = order.value.startsWith("-");
    const name = order.value.replace("-", "").replace(/-(.)/g, (_, letter) => letter.toUpperCase());
    const value = (row) => (name === "" ? rows.indexOf(row) : Number(row.dataset[name] ?? NaN));
    const sorted = [...rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y));
      return descending ? y - x : x - y;
    });
    list.append(...sorted);
  };

  const STEPS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  list.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || !event.target.classList.contains("row") || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const left = shown();
    const next = left[Math.min(Math.max(left.indexOf(event.target) + step, 0), left.length - 1)];
    makeCurrent(next);
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "start" });
  });
  list.addEventListener("focusin", (event) => makeCurrent(event.target.closest(".row")));

  document.querySelector(".tools").addEventListener("submit", (event) => event.preventDefault());
  buttons.forEach((button) => button.addEventListener("click", () => choose(button.dataset.kind)));
  find.addEventListener("input", filter);
  order.addEventListener("change", sort);
  document.getElementById("reset").addEventListener("click", () => { find.value = ""; choose("all"); find.focus(); });
  unfold.addEventListener("click", () => {
    const open = unfold.getAttribute("aria-pressed") !== "true";
    unfold.setAttribute("aria-pressed", String(open));
    all("details.drawn", list).forEach((details) => { details.open = open; });
  });
})();
