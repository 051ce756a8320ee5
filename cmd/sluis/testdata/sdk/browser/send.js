// Makes the calls with one SDK in a page, and tells the page's server when it has: "" or what went wrong.
const { sdk, mode, host, writeKey, calls } = await (await fetch('run.json')).json()

const script = src => new Promise((resolve, reject) => {
  document.head.append(Object.assign(document.createElement('script'), { src, onload: resolve, onerror: () => reject(src) }))
})

// Both keep who the visitor is; both take properties, options and so on by place.
function make(analytics, { call, send }, options) {
  const { userId, groupId, previousId, event, name, traits, properties } = structuredClone(send)
  switch (call) {
    case 'track': return analytics.track(event, properties ?? {}, options)
    case 'page': return analytics.page(undefined, name, properties, options)
    case 'screen': return analytics.screen(undefined, name, properties, options)
    case 'identify': return analytics.identify(userId, traits, options)
    case 'group': return analytics.group(groupId, traits, options)
    case 'alias': return analytics.alias(userId, previousId, options)
  }
}

const sdks = {
  async '@segment/analytics-next'() {
    await script('node_modules/@segment/analytics-next/dist/umd/index.js')
    const strategy = { strategy: 'batching', config: { size: 3, timeout: 100 } }
    const [analytics] = await AnalyticsNext.AnalyticsBrowser.load({ writeKey, cdnURL: host },
      { integrations: mode === 'batching' ? { 'Segment.io': { deliveryStrategy: strategy } } : {} })
    analytics.setAnonymousId(calls[0].send.anonymousId)
    for (const c of calls) {
      const { anonymousId, timestamp, context, integrations } = structuredClone(c.send)
      await make(analytics, c, { anonymousId, timestamp, context, integrations })
    }
  },

  async '@rudderstack/analytics-js'() {
    const { RudderAnalytics } = await import('./node_modules/@rudderstack/analytics-js/dist/npm/modern/bundled/esm/index.mjs')
    const analytics = new RudderAnalytics()
    await new Promise(resolve => analytics.load(writeKey, host, { configUrl: host, useBeacon: mode === 'beacon', onLoaded: resolve, logLevel: 'ERROR' }))
    analytics.setAnonymousId(calls[0].send.anonymousId)
    for (const c of calls) {
      const { anonymousId, timestamp, context, integrations } = structuredClone(c.send)
      make(analytics, c, { anonymousId, originalTimestamp: timestamp, context, integrations })
    }
  },
}

try {
  await sdks[sdk]()
  await fetch('done', { method: 'POST', body: '' })
} catch (error) {
  await fetch('done', { method: 'POST', body: `${error} ${error?.stack}` })
}
