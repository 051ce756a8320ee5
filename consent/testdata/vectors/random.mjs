// A small seeded generator (mulberry32), and what is drawn from it.
export function random(seed) {
  let a = seed >>> 0
  const next = () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = a
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const below = (n) => Math.floor(next() * n)
  const r = {
    below,
    bool: (p = 0.5) => next() < p,
    pick: (list) => list[below(list.length)],
    letters: (n) => Array.from({ length: n }, () => String.fromCharCode(65 + below(26))).join(''),
    // Some of the ids 1 to n.
    some: (n, p = next()) => Array.from({ length: n }, (_, i) => i + 1).filter(() => next() < p),
    // A day from 2019 to 2030.
    day: () => new Date(Date.UTC(2019 + below(12), below(12), 1 + below(28))),
    // Vendors: few or many, spread, clustered, or up to the largest id.
    vendors: (limit) => {
      switch (below(6)) {
        case 0: return []
        case 1: return r.some(1 + below(40))
        case 2: return r.some(1 + below(limit))
        case 3: return Array.from({ length: limit }, (_, i) => i + 1)
        case 4: {
          const set = new Set()
          for (let i = below(12); i >= 0; i--) {
            const first = 1 + below(limit)
            for (let id = first; id <= Math.min(limit, first + below(90)); id++) set.add(id)
          }
          return [...set].sort((a, b) => a - b)
        }
        default: return [...new Set(Array.from({ length: 1 + below(9) }, () => 1 + below(65535)))].sort((a, b) => a - b)
      }
    },
  }
  return r
}

// ranges writes ascending ids as "1-3,7".
export function ranges(ids) {
  const parts = []
  for (let i = 0; i < ids.length;) {
    let j = i
    while (j + 1 < ids.length && ids[j + 1] === ids[j] + 1) j++
    parts.push(j > i ? `${ids[i]}-${ids[j]}` : `${ids[i]}`)
    i = j + 1
  }
  return parts.join(',')
}

export function head(generator, seed, count) {
  console.log(JSON.stringify({ generator, seed, count }))
}
