"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const nodes = data.nodes || [];
  const byID = new Map(nodes.map(n => [n.id, n]));
  const children = new Map(nodes.map(n => [n.id, []]));
  for (const n of nodes) {
    n.parents = (n.parents || []).filter(id => byID.has(id));
    n.columns = n.columns || []; n.tests = n.tests || []; n.tags = n.tags || [];
    for (const id of n.parents) children.get(id).push(n.id);
  }
  const main = document.getElementById("main"), tree = document.getElementById("tree"), search = document.getElementById("search");
  const found = document.getElementById("found"), menu = document.getElementById("menu"), side = document.getElementById("side");

  // h makes an element; texts are texts, never markup.
  function h(tag, attributes, ...content) {
    const svg = ["svg", "g", "path", "rect", "text", "title", "circle", "defs", "marker"].includes(tag) && attributes && attributes.svg;
    const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key === "svg" || value === undefined || value === null || value === false) continue;
      if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
      else e.setAttribute(key, value === true ? "" : value);
    }
    e.append(...content.flat(9).filter(c => c !== null && c !== undefined && c !== false));
    return e;
  }
  const s = (tag, attributes, ...content) => h(tag, { svg: true, ...attributes }, ...content);
  const number = n => n.toLocaleString("en-US");
  const count = (n, one, many) => number(n) + " " + (n === 1 ? one : many || one + "s");
  const link = n => "#/" + n.kind + "/" + encodeURIComponent(n.name);
  const date = text => new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

  // prose writes a description: `code` is marked, all else is text.
  function prose(text) {
    return text.split(/(`[^`]+`)/).map(part => part.startsWith("`") && part.length > 2 ? h("code", null, part.slice(1, -1)) : part);
  }

  // reach finds all that can be reached, and how many steps away.
  function reach(id, next) {
    const steps = new Map([[id, 0]]), edge = [id];
    while (edge.length) {
      const at = edge.shift();
      for (const other of next(at)) if (!steps.has(other)) { steps.set(other, steps.get(at) + 1); edge.push(other); }
    }
    return steps;
  }
  const above = id => reach(id, at => byID.get(at).parents);
  const below = id => reach(id, at => children.get(at));

  const kinds = { model: "Model", seed: "Seed", source: "Source" };
  const purposeOf = n => n.meta && n.meta.audience && n.meta.audience.purpose;
  const allTests = n => n.tests.concat(...n.columns.map(c => c.tests || []));
  const verdict = tests => {
    const bad = tests.filter(t => t.status === "fail" || t.status === "error").length;
    return bad ? "bad" : tests.some(t => t.status === "warn") ? "warn" : tests.length && tests.every(t => t.status) ? "good" : "";
  };

  // ---- The tree, and the search in it.
  function matches(n, words) {
    const columns = n.columns.filter(c => words.some(w => (c.name + " " + (c.description || "")).toLowerCase().includes(w)));
    const texts = [n.name, n.description, n.path, n.tags.join(" "), purposeOf(n) || "", n.materialized || ""].join(" ").toLowerCase();
    let score = 0;
    for (const w of words) {
      const name = n.name.toLowerCase();
      const at = name === w ? 8 : name.startsWith(w) ? 5 : name.includes(w) ? 4 : columns.some(c => c.name.toLowerCase().includes(w)) ? 3 : texts.includes(w) ? 2
        : columns.some(c => (c.description || "").toLowerCase().includes(w)) ? 1 : 0;
      if (!at) return null;
      score += at;
    }
    return { n, score, columns: columns.filter(c => words.some(w => c.name.toLowerCase().includes(w))).slice(0, 3) };
  }
  const item = (n, more) => h("a", { href: link(n), class: "item " + n.kind + (purposeOf(n) ? " audience" : ""), "data-id": n.id },
    h("i", { class: "dot", "aria-hidden": "true" }), h("span", { class: "name" }, n.kind === "source" ? n.name.split(".").pop() : n.name), more);
  function drawTree() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    tree.replaceChildren();
    if (words.length) {
      const hits = nodes.map(n => matches(n, words)).filter(Boolean).sort((a, b) => b.score - a.score || a.n.name.localeCompare(b.n.name));
      tree.append(h("p", { class: "hits" }, hits.length ? count(hits.length, "result") : "Nothing has all of these words."));
      tree.append(h("ul", null, hits.map(hit => h("li", null, item(hit.n, hit.columns.length ? h("small", null, "column " + hit.columns.map(c => c.name).join(", ")) : null)))));
      found.textContent = count(hits.length, "result");
    } else {
      found.textContent = "";
      const folders = new Map();
      nodes.forEach(n => folders.set(n.folder, (folders.get(n.folder) || []).concat(n)));
      const label = f => f.replace(/^models\//, "");
      const rank = f => f.startsWith("sources/") ? 1 : f.startsWith("seeds") ? 2 : 0;
      const names = [...folders.keys()].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
      for (const folder of names) {
        const of = folders.get(folder);
        tree.append(h("details", { open: true }, h("summary", null, label(folder), h("span", { class: "count" }, String(of.length))), h("ul", null, of.map(n => h("li", null, item(n))))));
      }
    }
    mark();
  }
  function mark() {
    const current = nodeAt(location.hash);
    for (const a of tree.querySelectorAll("a.item")) {
      const is = current && a.dataset.id === current.id;
      if (is) { a.setAttribute("aria-current", "page"); a.scrollIntoView({ block: "nearest" }); } else a.removeAttribute("aria-current");
    }
  }

  // ---- The picture.
  const canvas = document.createElement("canvas").getContext("2d");
  function widthOf(n) {
    canvas.font = "700 13px ui-sans-serif, system-ui, sans-serif";
    return Math.ceil(canvas.measureText(n.name).width) + 36;
  }
  // picture draws nodes and what they read. choose is called with a node that was clicked.
  function picture(ids, focus, choose) {
    const shown = ids.map(id => byID.get(id)), set = new Set(ids);
    const edges = shown.flatMap(n => n.parents.filter(p => set.has(p)).map(p => [p, n.id]));
    const at = layout(shown.map(n => ({ id: n.id, width: widthOf(n) })), edges);
    const lines = s("g", { class: "edges" }), boxes = s("g", { class: "boxes" });
    const paths = at.paths.map(p => { const e = s("path", { d: p.d, "marker-end": "url(#tip)" }); lines.append(e); return { ...p, e }; });
    const marked = new Map();
    const groups = new Map(shown.map(n => {
      const p = at.places.get(n.id);
      const g = s("g", { class: "box " + n.kind + (purposeOf(n) ? " audience" : ""), transform: "translate(" + p.x + " " + p.y + ")", tabindex: "0", role: "link", "data-id": n.id,
        "aria-label": kinds[n.kind] + " " + n.name + ", reads " + n.parents.length + ", read by " + children.get(n.id).length },
        s("title", null, n.name + (n.description ? "\n" + n.description : "")),
        s("rect", { width: p.width, height: p.height, rx: 7 }), s("circle", { cx: 14, cy: p.height / 2, r: 4 }), s("text", { x: 25, y: p.height / 2 + 4.5 }, n.name));
      boxes.append(g);
      return [n.id, g];
    }));
    const svg = s("svg", { viewBox: "0 0 " + at.width + " " + at.height, width: at.width, height: at.height, class: "lineage", role: "group", "aria-label": "What is made of what" },
      s("defs", null, s("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, s("path", { d: "M0 0.8 7 4 0 7.2z" }))), lines, boxes);
    // show marks a node with all that it is made of and all that is made of it.
    function show(id) {
      const up = id ? above(id) : null, down = id ? below(id) : null;
      svg.classList.toggle("marked", Boolean(id));
      for (const [other, g] of groups) {
        g.classList.toggle("self", other === id);
        g.classList.toggle("up", Boolean(id) && other !== id && up.has(other));
        g.classList.toggle("down", Boolean(id) && other !== id && down.has(other));
      }
      for (const p of paths) {
        p.e.classList.toggle("up", Boolean(id) && up.has(p.to) && up.has(p.from));
        p.e.classList.toggle("down", Boolean(id) && down.has(p.from) && down.has(p.to));
      }
    }
    let kept = focus;
    show(kept);
    for (const [id, g] of groups) {
      const go = () => { kept = choose(byID.get(id)) === false ? kept : id; show(kept); };
      g.addEventListener("click", go);
      g.addEventListener("keydown", e => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); go(); } });
      g.addEventListener("mouseenter", () => show(id));
      g.addEventListener("mouseleave", () => show(kept));
      g.addEventListener("focus", () => show(id));
      g.addEventListener("blur", () => show(kept));
    }
    let zoom = 1;
    const scroll = h("div", { class: "canvas", tabindex: "0", role: "region", "aria-label": "Picture of the lineage; scrolls" }, svg);
    const scale = to => {
      const middle = (scroll.scrollLeft + scroll.clientWidth / 2) / zoom, centre = (scroll.scrollTop + scroll.clientHeight / 2) / zoom;
      zoom = Math.min(2, Math.max(0.25, to));
      svg.setAttribute("width", at.width * zoom); svg.setAttribute("height", at.height * zoom);
      scroll.scrollLeft = middle * zoom - scroll.clientWidth / 2; scroll.scrollTop = centre * zoom - scroll.clientHeight / 2;
    };
    const fit = () => scale(Math.min(1, (scroll.clientWidth - 4) / at.width, Math.max(0.6, (parseFloat(getComputedStyle(scroll).maxHeight) || 460) / at.height)));
    scroll.addEventListener("wheel", e => { if (e.ctrlKey || e.metaKey) { e.preventDefault(); scale(zoom * (e.deltaY < 0 ? 1.12 : 0.89)); } }, { passive: false });
    let from = null;
    scroll.addEventListener("pointerdown", e => { if (e.pointerType === "mouse" && !e.target.closest(".box")) from = [e.clientX + scroll.scrollLeft, e.clientY + scroll.scrollTop]; });
    scroll.addEventListener("pointermove", e => { if (from) { scroll.scrollLeft = from[0] - e.clientX; scroll.scrollTop = from[1] - e.clientY; } });
    for (const end of ["pointerup", "pointerleave"]) scroll.addEventListener(end, () => { from = null; });
    const tool = (text, label, to) => h("button", { type: "button", class: "plain", "aria-label": label, title: label, onclick: to }, text);
    const element = h("div", { class: "picture" }, scroll, h("div", { class: "tools" }, tool("−", "Smaller", () => scale(zoom / 1.2)), tool("+", "Larger", () => scale(zoom * 1.2)), tool("Fit", "Fit the width", fit)),
      h("p", { class: "legend", "aria-hidden": "true" }, h("span", { class: "source" }, "source"), h("span", { class: "seed" }, "seed"), h("span", { class: "model" }, "model"),
        shown.some(purposeOf) ? h("span", { class: "audience" }, "audience") : null, h("span", { class: "line up" }, "made of"), h("span", { class: "line down" }, "makes")));
    return {
      element,
      placed() {
        fit();
        scale(Math.max(zoom, 0.7)); // smaller is not read; it scrolls
        scroll.scrollLeft = 0;
        const p = focus && at.places.get(focus);
        if (p) { scroll.scrollLeft = (p.x + p.width / 2) * zoom - scroll.clientWidth / 2; scroll.scrollTop = p.middle * zoom - scroll.clientHeight / 2; }
      },
    };
  }

  // ---- SQL.
  const keywords = /^(select|from|where|and|or|not|in|is|null|as|on|join|left|right|inner|outer|full|cross|group|by|order|having|limit|union|all|distinct|with|case|when|then|else|end|over|partition|between|exists|lateral|interval|cast|asc|desc|nulls|last|first|true|false|using|qualify|window|rows|range|values|except|intersect|like|unnest)$/i;
  function highlight(code) {
    const out = [];
    for (const m of code.matchAll(/(--[^\n]*|\{#[\s\S]*?#\})|('(?:[^']|'')*'|"[^"]*")|(\{\{|\}\}|\{%-?|-?%\})|([A-Za-z_]\w*)|(\d+(?:\.\d+)?)|(\s+|.)/g)) {
      const kind = m[1] ? "comment" : m[2] ? "string" : m[3] ? "jinja" : m[4] && keywords.test(m[4]) ? "keyword" : m[5] ? "number" : "";
      out.push(kind ? h("span", { class: kind }, m[0]) : m[0]);
    }
    return out;
  }
  function code(n) {
    const texts = [["Source", n.source], ["Compiled for " + data.adapter, n.compiled]].filter(([, text]) => text);
    if (!texts.length) return null;
    const pre = h("pre", { tabindex: "0", id: "sql", role: "tabpanel" });
    let current = "";
    const tabs = texts.map(([label, text], i) => h("button", { type: "button", role: "tab", class: "plain", "aria-controls": "sql", onclick: () => choose(i) }, label));
    function choose(i) {
      current = texts[i][1].trim();
      pre.replaceChildren(h("code", null, highlight(current)));
      tabs.forEach((tab, j) => tab.setAttribute("aria-selected", String(i === j)));
    }
    choose(0);
    const copy = h("button", { type: "button", class: "plain copy", onclick: async () => {
      try { await navigator.clipboard.writeText(current); copy.textContent = "Copied"; } catch { getSelection().selectAllChildren(pre); copy.textContent = "Selected"; }
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    } }, "Copy");
    return h("section", { class: "code" }, h("h2", null, "SQL"), h("div", { class: "tabs" }, h("div", { role: "tablist", "aria-label": "SQL" }, tabs), copy), pre);
  }

  // ---- Views.
  const chip = (text, kind, title) => h("span", { class: "chip " + (kind || ""), title }, text);
  const testChip = t => chip((t.status === "pass" ? "✓ " : t.status === "fail" || t.status === "error" ? "✗ " : t.status === "warn" ? "! " : "") + t.title.replaceAll("_", " "),
    "test " + ({ pass: "good", fail: "bad", error: "bad", warn: "warn" }[t.status] || ""), [t.name, t.detail, t.severity === "warn" ? "only warns" : "", t.status ? "last run: " + t.status : ""].filter(Boolean).join("\n"));

  function overview() {
    const models = nodes.filter(n => n.kind === "model"), tests = new Map(nodes.flatMap(allTests).map(t => [t.name, t]));
    const stat = (value, label, kind) => h("div", { class: "stat " + (kind || "") }, h("b", null, number(value)), h("span", null, label));
    const bad = [...tests.values()].filter(t => t.status === "fail" || t.status === "error");
    const folders = new Map();
    nodes.forEach(n => folders.set(n.folder, (folders.get(n.folder) || []).concat(n)));
    const first = [...folders].filter(([f]) => f.startsWith("models/")).concat([...folders].filter(([f]) => !f.startsWith("models/")));
    return [
      h("h1", null, data.project),
      h("p", { class: "lead" }, "What is in the warehouse, what it means, and what it is made of."),
      h("div", { class: "stats" }, stat(models.length, models.length === 1 ? "model" : "models"), stat(models.filter(purposeOf).length, "audiences"), stat(nodes.filter(n => n.kind === "source").length, "sources"),
        stat(nodes.reduce((sum, n) => sum + n.columns.length, 0), "columns"), stat(tests.size, "tests", verdict([...tests.values()]))),
      bad.length ? h("section", { class: "alert" }, h("h2", null, count(bad.length, "test") + " failed in the last run"), h("ul", null, bad.map(t => h("li", null, h("code", null, t.name), t.detail ? " — " + t.detail : "")))) : null,
      h("div", { class: "cards" }, first.map(([folder, of]) => h("section", { class: "card" }, h("h2", null, folder.replace(/^models\//, "")), h("ul", null, of.map(n =>
        h("li", null, item(n, n.rows !== undefined ? h("small", null, count(n.rows, "row")) : null), n.description ? h("p", null, prose(n.description)) : null)))))),
    ];
  }

  function columnsOf(n) {
    if (!n.columns.length) return null;
    const tested = n.columns.some(c => c.tests), typed = n.columns.some(c => c.type);
    return h("section", null, h("h2", null, "Columns", h("span", { class: "count" }, String(n.columns.length))),
      h("table", null, h("thead", null, h("tr", null, h("th", { scope: "col" }, "Column"), typed ? h("th", { scope: "col" }, "Type") : null, h("th", { scope: "col" }, "Description"), tested ? h("th", { scope: "col" }, "Tests") : null)),
        h("tbody", null, n.columns.map(c => h("tr", { id: "column-" + c.name }, h("th", { scope: "row" }, c.name), typed ? h("td", { class: "type" }, (c.type || "").toLowerCase()) : null,
          h("td", { class: "text" }, c.description ? prose(c.description) : h("span", { class: "faint" }, "—")), tested ? h("td", { class: "tests" }, (c.tests || []).map(testChip)) : null)))));
  }

  function detail(n) {
    const up = above(n.id), down = below(n.id), purpose = purposeOf(n);
    const near = new Set([...up].filter(([, d]) => d <= 2).concat([...down].filter(([, d]) => d <= 2)).map(([id]) => id));
    const every = new Set([...up.keys(), ...down.keys()]);
    let graph = picture([...near], n.id, other => { if (other.id !== n.id) location.hash = link(other); return false; });
    const holder = h("div", null, graph.element);
    const whole = every.size > near.size ? h("button", { type: "button", class: "plain wide", onclick: () => {
      graph = picture([...every], n.id, other => { if (other.id !== n.id) location.hash = link(other); return false; });
      holder.replaceChildren(graph.element); graph.placed(); whole.remove();
    } }, "Show all " + number(every.size)) : null;
    const list = (title, ids) => h("div", null, h("h3", null, title, h("span", { class: "count" }, String(ids.length))), ids.length ? h("ul", null, ids.map(id => h("li", null, item(byID.get(id))))) : h("p", { class: "faint" }, "nothing"));
    const facts = [
      [n.kind === "model" ? "Built as" : "Kind", n.kind === "model" ? n.materialized : kinds[n.kind].toLowerCase()],
      ["In the warehouse", n.relation && (n.built || !data.nodes.some(o => o.built)) ? n.relation : n.relation ? n.relation + " (not built yet)" : null],
      ["Rows", n.rows !== undefined ? number(n.rows) : null],
      ["File", n.path],
      ["Last run", n.status],
    ].filter(([, value]) => value);
    return {
      content: [
        h("p", { class: "crumbs" }, h("a", { href: "#/" }, data.project), " / ", n.folder.replace(/^models\//, "")),
        h("h1", null, n.name),
        h("p", { class: "chips" }, chip(kinds[n.kind].toLowerCase(), n.kind), purpose ? chip("audience for " + purpose, "audience") : null, n.tags.filter(t => t !== n.kind && !(purpose && t === "audience")).map(t => chip("#" + t)),
          allTests(n).length ? chip(count(allTests(n).length, "test"), verdict(allTests(n))) : null),
        n.description ? h("p", { class: "lead" }, prose(n.description)) : null,
        h("dl", { class: "facts" }, facts.map(([key, value]) => h("div", null, h("dt", null, key), h("dd", null, String(value))))),
        columnsOf(n),
        n.tests.length ? h("section", null, h("h2", null, "Tests of the whole", h("span", { class: "count" }, String(n.tests.length))), h("ul", { class: "testlist" }, n.tests.map(t => h("li", null, testChip(t), h("span", null, t.detail || ""), t.severity === "warn" ? chip("only warns") : null)))) : null,
        h("section", null, h("h2", null, "Lineage"), holder, whole, h("div", { class: "neighbours" }, list("Reads", n.parents), list("Read by", children.get(n.id)))),
        code(n),
      ],
      after: () => graph.placed(),
    };
  }

  function lineage() {
    const card = h("div", { class: "picked", role: "status" }, h("p", { class: "faint" }, "Choose one to see what it is made of, and what is made of it."));
    const graph = picture(nodes.map(n => n.id), null, n => {
      card.replaceChildren(h("div", null, h("b", null, n.name), " ", h("span", { class: "faint" }, "made of " + (above(n.id).size - 1) + ", makes " + (below(n.id).size - 1)), n.description ? h("p", null, prose(n.description)) : null), h("a", { class: "button", href: link(n) }, "Open"));
    });
    return { content: [h("h1", null, "Lineage"), card, graph.element], after: () => graph.placed() };
  }

  function nodeAt(hash) {
    const m = /^#\/(model|seed|source)\/(.+)$/.exec(hash);
    return m && nodes.find(n => n.kind === m[1] && n.name === decodeURIComponent(m[2]));
  }
  function route() {
    const n = nodeAt(location.hash);
    const view = n ? detail(n) : location.hash === "#/lineage" ? lineage() : { content: overview() };
    full = !n && location.hash === "#/lineage";
    drawer();
    main.className = n ? "detail" : location.hash === "#/lineage" ? "wide" : "overview";
    main.replaceChildren(...view.content.filter(Boolean), h("footer", null, "Written " + date(data.generated) + (data.lastRun ? "; last run " + date(data.lastRun) : "") + ". This page is one file and loads nothing."));
    document.title = (n ? n.name + " · " : "") + data.project + " models";
    for (const a of document.querySelectorAll("header nav a")) {
      const is = !n && (a.dataset.view === "lineage") === (location.hash === "#/lineage");
      if (is) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current");
    }
    open(false);
    scrollTo(0, 0);
    if (view.after) view.after();
    mark();
  }
  // The list of models is a drawer where there is no room beside it.
  let full = false;
  const narrow = matchMedia("(max-width: 860px)");
  function drawer() { document.body.classList.toggle("drawer", full || narrow.matches); }
  narrow.addEventListener("change", drawer);
  function open(is) { document.body.classList.toggle("open", is); menu.setAttribute("aria-expanded", String(is)); }

  // ---- What is done once.
  document.getElementById("project").textContent = data.project;
  const theme = document.getElementById("theme"), root = document.documentElement;
  const remembered = key => { try { return localStorage.getItem(key); } catch { return null; } };
  if (remembered("theme")) root.dataset.theme = remembered("theme");
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a page from a disk may have no storage */ }
  });
  menu.addEventListener("click", () => { open(!document.body.classList.contains("open")); if (document.body.classList.contains("open")) search.focus(); });
  main.addEventListener("click", () => { if (document.body.classList.contains("open")) open(false); });
  search.addEventListener("input", drawTree);
  search.addEventListener("keydown", e => {
    const first = tree.querySelector("a.item");
    if (e.key === "Enter" && first) location.hash = first.getAttribute("href");
    if (e.key === "ArrowDown" && first) { e.preventDefault(); first.focus(); }
    if (e.key === "Escape") { search.value = ""; drawTree(); }
  });
  tree.addEventListener("keydown", e => {
    if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
    const all = [...tree.querySelectorAll("a.item")], i = all.indexOf(document.activeElement), to = all[i + (e.key === "ArrowDown" ? 1 : -1)];
    e.preventDefault();
    (to || search).focus();
  });
  document.addEventListener("keydown", e => {
    if (e.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) { e.preventDefault(); if (document.body.classList.contains("drawer")) open(true); search.focus(); search.select(); }
    if (e.key === "Escape") open(false);
  });
  addEventListener("hashchange", route);
  drawTree();
  route();
})();
