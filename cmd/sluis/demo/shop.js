// The page's side of the demo: a visitor's buttons call sluis.js, and what it sends is shown.
const log = document.getElementById('log')
const send = window.fetch
window.fetch = async (url, options) => {
  const { batch, purposes } = JSON.parse(options.body)
  const what = purposes ? ['choice'] : batch.map(({ type, event, context }) => event || (type === 'page' ? `page ${context.page.path}` : type))
  const answer = await send(url, options)
  log.textContent = `${what.join(', ')} → ${JSON.stringify(await answer.clone().json())}\n` + log.textContent
  return answer
}

const all = ['identity', 'analytics', 'personalization', 'marketing', 'advertising', 'sale']
const choices = { all, analytics: ['identity', 'analytics'], none: [] }
const show = () => {
  const choice = sluis.consent()
  if (choice) document.getElementById('choice').textContent = all.filter(purpose => choice[purpose]).join(', ') || 'refused'
}
sluis.ready(show)

document.addEventListener('click', ({ target }) => {
  const { choice, page, track } = target.dataset ?? {}
  if (choice) sluis.consent(Object.fromEntries(all.map(purpose => [purpose, choices[choice].includes(purpose)])))
  if (page) history.pushState({}, '', page) // which sluis.js sees as a page view
  if (track) sluis.track(track)
  if (target.id === 'identify') sluis.identify('jane', { email: 'jane@example.com', name: 'Jane' })
  if (target.id === 'reset') sluis.reset()
  show()
})
