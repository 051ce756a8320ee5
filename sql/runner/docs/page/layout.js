"use strict";
// layout places the nodes of a graph without cycles in columns from left to
// right, so that each stands right of all that it reads and edges cross seldom.
// Edges over several columns go through places in each, which those from one
// node share.
// nodes: [{id, width}]; edges: [[from, to]]. It returns the places by id
// ({x, y, width, height}), the paths of the edges, and the size.
function layout(nodes, edges) {
  const height = 30, gapX = 48, margin = 16;
  const ids = new Set(nodes.map(n => n.id));
  edges = edges.filter(([a, b]) => ids.has(a) && ids.has(b) && a !== b);
  const parents = new Map(nodes.map(n => [n.id, []])), children = new Map(nodes.map(n => [n.id, []]));
  for (const [a, b] of edges) { parents.get(b).push(a); children.get(a).push(b); }

  // Columns: as far left as what it reads allows; what reads nothing stands next to its first reader.
  const rank = new Map();
  const rankOf = id => {
    if (!rank.has(id)) {
      rank.set(id, 0);
      rank.set(id, Math.max(-1, ...parents.get(id).map(rankOf)) + 1);
    }
    return rank.get(id);
  };
  nodes.forEach(n => rankOf(n.id));
  for (const n of nodes) {
    const below = children.get(n.id).map(c => rank.get(c));
    if (!parents.get(n.id).length && below.length) rank.set(n.id, Math.min(...below) - 1);
  }

  // Places, with those that long edges go through.
  const columns = [], up = new Map(), down = new Map(), chains = [];
  const place = (id, r) => { (columns[r] = columns[r] || []).push(id); up.set(id, []); down.set(id, []); };
  nodes.forEach(n => place(n.id, rank.get(n.id)));
  for (let r = 0; r < columns.length; r++) columns[r] = columns[r] || [];
  for (const [a, b] of edges) {
    const chain = [a];
    for (let r = rank.get(a) + 1; r < rank.get(b); r++) {
      const id = "from " + a + " " + r;
      if (!up.has(id)) place(id, r);
      chain.push(id);
    }
    chain.push(b);
    chains.push(chain);
    for (let j = 1; j < chain.length; j++) {
      if (down.get(chain[j - 1]).includes(chain[j])) continue;
      down.get(chain[j - 1]).push(chain[j]);
      up.get(chain[j]).push(chain[j - 1]);
    }
  }

  // Order within columns: each near the middle of its neighbours, there and back again; the order with the fewest crossings stays.
  const order = new Map();
  const number = () => columns.forEach(c => c.forEach((id, i) => order.set(id, i)));
  const median = around => {
    if (!around.length) return null;
    const at = around.map(id => order.get(id)).sort((a, b) => a - b), m = at.length >> 1;
    return at.length % 2 ? at[m] : (at[m - 1] + at[m]) / 2;
  };
  const crossings = () => {
    let n = 0;
    for (const column of columns) {
      const ends = [];
      column.forEach(id => down.get(id).map(o => order.get(o)).sort((a, b) => a - b).forEach(e => ends.push(e)));
      for (let i = 0; i < ends.length; i++) for (let j = i + 1; j < ends.length; j++) if (ends[i] > ends[j]) n++;
    }
    return n;
  };
  number();
  let best = columns.map(c => c.slice()), fewest = crossings();
  for (let sweep = 0; sweep < 24 && fewest; sweep++) {
    const forward = sweep % 2 === 0, sides = forward ? up : down;
    for (const c of forward ? columns : columns.slice().reverse()) {
      const at = new Map(c.map(id => { const m = median(sides.get(id)); return [id, m === null ? order.get(id) : m]; }));
      c.sort((a, b) => at.get(a) - at.get(b) || order.get(a) - order.get(b));
      c.forEach((id, i) => order.set(id, i));
    }
    const n = crossings();
    if (n < fewest) { fewest = n; best = columns.map(c => c.slice()); }
  }
  columns.forEach((c, i) => { columns[i] = best[i]; });
  number();

  // Heights: each wants to stand at the mean of its neighbours, and none stands on another.
  const widths = new Map(nodes.map(n => [n.id, n.width]));
  const tall = id => widths.has(id) ? height : 2;
  const gap = (a, b) => widths.has(a) && widths.has(b) ? 12 : widths.has(a) || widths.has(b) ? 8 : 5;
  const y = new Map();
  columns.forEach(c => { let at = 0; c.forEach(id => { y.set(id, at + tall(id) / 2); at += tall(id) + 12; }); });
  for (let round = 0; round < 30; round++) {
    for (const c of round % 2 ? columns.slice().reverse() : columns) {
      const wanted = c.map(id => {
        const around = up.get(id).concat(down.get(id));
        return around.length ? around.reduce((sum, o) => sum + y.get(o), 0) / around.length : y.get(id);
      });
      spread(c, wanted);
    }
  }
  // spread keeps the order, and moves groups that touch to where they are nearest to what they want.
  function spread(c, wanted) {
    const groups = [];
    c.forEach((id, i) => {
      let g = { ids: [id], offsets: [0], sum: wanted[i], size: tall(id) };
      g.at = g.sum;
      for (;;) {
        const before = groups[groups.length - 1];
        if (!before) break;
        const lastId = before.ids[before.ids.length - 1], last = before.at + before.offsets[before.offsets.length - 1];
        const need = tall(lastId) / 2 + gap(lastId, g.ids[0]) + tall(g.ids[0]) / 2;
        if (g.at - last >= need) break;
        groups.pop();
        const shift = before.offsets[before.offsets.length - 1] + need;
        const offsets = before.offsets.concat(g.offsets.map(o => o + shift));
        g = { ids: before.ids.concat(g.ids), offsets, sum: before.sum + g.sum - shift * g.ids.length };
        g.at = g.sum / g.ids.length;
      }
      groups.push(g);
    });
    groups.forEach(g => g.ids.forEach((id, i) => y.set(id, g.at + g.offsets[i])));
  }

  const top = Math.min(...[...y].map(([id, at]) => at - tall(id) / 2)), places = new Map(), x = [];
  let left = margin;
  columns.forEach((c, r) => {
    x[r] = left;
    left += Math.max(0, ...c.map(id => widths.get(id) || 0)) + gapX;
  });
  const columnWidth = r => (r + 1 < x.length ? x[r + 1] : left) - x[r] - gapX;
  let bottom = 0;
  columns.forEach((c, r) => c.forEach(id => {
    const at = y.get(id) - top + margin;
    places.set(id, { x: x[r], y: at - tall(id) / 2, width: widths.get(id) || columnWidth(r), height: tall(id), middle: at });
    bottom = Math.max(bottom, at + tall(id) / 2);
  }));
  const paths = chains.map(chain => {
    let d = "";
    for (let j = 1; j < chain.length; j++) {
      const a = places.get(chain[j - 1]), b = places.get(chain[j]), x1 = a.x + a.width, x2 = b.x, bend = Math.max(24, (x2 - x1) / 2);
      d += (d ? "L" : "M") + x1 + " " + a.middle + "C" + (x1 + bend) + " " + a.middle + " " + (x2 - bend) + " " + b.middle + " " + x2 + " " + b.middle;
    }
    return { from: chain[0], to: chain[chain.length - 1], d };
  });
  for (const id of places.keys()) if (!ids.has(id)) places.delete(id);
  return { places, paths, width: left - gapX + margin, height: bottom + margin, crossings: fewest };
}
