"use strict";
(() => {
  document.documentElement.classList.add("js");
  const words = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  // Tables: a click on a heading sorts, a third one restores the first order; missing values stay last.
  for (const box of document.querySelectorAll("[data-table]")) {
    const table = box.querySelector("table");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const texts = rows.map((row) => row.textContent.toLowerCase());
    // of a row that links to a thumbnail, that thumbnail: it is sorted and filtered with its row
    const twins = rows.map((row) => {
      const link = row.querySelector("a[href^='#']");
      return link && document.getElementById(link.hash.slice(1));
    });
    const heads = [...table.tHead.rows[0].cells];
    const search = box.querySelector("input");
    const choices = [...box.querySelectorAll("select")];
    const count = box.querySelector("output");
    const said = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
    const value = (row, i) => {
      const cell = row.cells[i];
      if (heads[i].dataset.kind !== "number") return /^\u2013?$/.test(said(cell)) ? null : said(cell);
      return "v" in cell.dataset ? Number(cell.dataset.v) : null;
    };
    const sort = (i, order) => {
      heads.forEach((head, j) => {
        if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", i === j ? order : "none");
      });
      const keyed = rows.map((row, at) => [order === "none" ? at : value(row, i), at, row]);
      const sign = order === "descending" ? -1 : 1;
      keyed.sort(([a, at], [b, bt]) => {
        if (a === null || b === null) return (a === null) - (b === null) || at - bt;
        return sign * (typeof a === "number" ? a - b : words.compare(a, b)) || at - bt;
      });
      body.append(...keyed.map((key) => key[2]));
      for (const key of keyed) if (twins[key[1]]) twins[key[1]].parentElement.append(twins[key[1]]);
    };
    heads.forEach((head, i) => {
      const button = head.querySelector("button");
      if (!button) return;
      const first = head.dataset.first === "descending" ? ["descending", "ascending"] : ["ascending", "descending"];
      const order = ["none", ...first, "none"];
      button.addEventListener("click", () => sort(i, order[order.indexOf(head.getAttribute("aria-sort")) + 1]));
    });
    if (!search) continue;
    for (const choice of choices) {
      const values = [...new Set(rows.map((row) => said(row.cells[choice.dataset.column])))].sort(words.compare);
      choice.append(...values.map((one) => new Option(one, one)));
      choice.parentElement.hidden = values.length < 2;
    }
    const filter = () => {
      const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, at) => {
        const fits = wanted.every((word) => texts[at].includes(word)) &&
          choices.every((choice) => !choice.selectedIndex || said(row.cells[choice.dataset.column]) === choice.value);
        row.hidden = !fits;
        if (twins[at]) twins[at].hidden = !fits;
        shown += fits;
      });
      count.textContent = `${shown} of ${rows.length} rows`;
    };
    search.addEventListener("input", filter);
    choices.forEach((choice) => choice.addEventListener("change", filter));
    box.querySelector(".tools button").addEventListener("click", () => {
      search.value = "";
      choices.forEach((choice) => { choice.selectedIndex = 0; });
      filter();
      sort(-1, "none");
      search.focus();
    });
    filter();
  }

  // Pictures wait until they are seen, so that a thousand open at once; the rest follows while nobody is busy, and before print.
  const waiting = [...document.querySelectorAll("img[loading=lazy]")].reverse();
  const load = (count) => { while (waiting.length && count-- > 0) waiting.pop().loading = "eager"; };
  const later = window.requestIdleCallback || ((work) => setTimeout(work, 200));
  const rest = () => { load(30); if (waiting.length) later(rest); };
  window.addEventListener("load", () => later(rest));
  window.addEventListener("beforeprint", () => load(Infinity));

  // Thumbnails: one panel for all; arrow keys go to the neighbours.
  const panel = document.querySelector("dialog");
  if (!panel) return;
  const [pair, facts, title] = [".pair", ".about", "h3"].map((name) => panel.querySelector(name));
  let opener = null;
  const show = (button) => {
    opener = button;
    const pictures = [...button.querySelectorAll("img")].map((picture) => {
      const copy = picture.cloneNode();
      copy.loading = "eager";
      copy.classList.toggle("small", Number(picture.getAttribute("width")) < 160);
      return copy;
    });
    pair.replaceChildren(...pictures);
    title.textContent = button.getAttribute("aria-label");
    const more = button.parentElement.querySelector("template");
    facts.replaceChildren(more ? more.content.cloneNode(true) : "");
  };
  const step = (by) => {
    const all = [...opener.closest(".strip").querySelectorAll("li:not([hidden]) button")];
    show(all[(all.indexOf(opener) + by + all.length) % all.length]);
  };
  for (const button of document.querySelectorAll(".strip button")) {
    button.addEventListener("click", () => { show(button); panel.showModal(); });
  }
  for (const link of document.querySelectorAll("[data-table] a[href^='#']")) {
    const button = document.querySelector(`${link.hash} button`);
    if (button) link.addEventListener("click", (event) => { event.preventDefault(); show(button); panel.showModal(); });
  }
  const [before, after, close] = panel.querySelectorAll("button");
  before.addEventListener("click", () => step(-1));
  after.addEventListener("click", () => step(1));
  close.addEventListener("click", () => panel.close());
  panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
  panel.addEventListener("close", () => opener.focus());
  panel.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
})();
