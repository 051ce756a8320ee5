// The page's side of the demo: it sends what a visitor does, and shows the answers.
const log = document.getElementById('log')
const id = localStorage.visitor ||= crypto.randomUUID()

async function send(path, body) {
  const config = await (await fetch('config.json')).json()
  const answer = await fetch(config.collector + path, {
    method: 'POST',
    credentials: 'include',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, writeKey: config.writeKey, anonymousId: id, messageId: crypto.randomUUID() }),
  })
  log.textContent = `${path} → ${JSON.stringify(await answer.json())}\n` + log.textContent
}

const all = ['identity', 'analytics', 'personalization', 'marketing', 'advertising', 'sale']
const choices = { all, analytics: ['identity', 'analytics'], none: [] }

document.addEventListener('click', ({ target }) => {
  const { choice, page, track } = target.dataset ?? {}
  if (choice) send('/v1/consent', { purposes: Object.fromEntries(all.map(p => [p, choices[choice].includes(p)])) })
  if (page) send('/v1/page', { properties: { path: page, url: location.origin + page, title: 'Shop' } })
  if (track) send('/v1/track', { event: track })
  if (target.id === 'identify') send('/v1/identify', { userId: 'jane', traits: { email: 'jane@example.com', name: 'Jane' } })
})
