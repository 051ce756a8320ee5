// Makes the calls with one SDK: node send.mjs SDK HOST WRITE_KEY CALLS.json [MODE]
import { readFileSync } from 'node:fs'
import { Analytics } from '@segment/analytics-node'
import RudderAnalytics from '@rudderstack/rudder-sdk-node'
import LegacyAnalytics from 'analytics-node'
import { jitsuAnalytics } from '@jitsu/js'

const [sdk, host, writeKey, file, mode] = process.argv.slice(2)
const calls = JSON.parse(readFileSync(file, 'utf8'))
const failures = []

// Segment's and RudderStack's take one message, whose timestamp is a Date.
const message = ({ send }) => ({ ...send, timestamp: new Date(send.timestamp) })

const sdks = {
  async '@segment/analytics-node'() {
    const analytics = new Analytics({ writeKey, host, flushAt: 4, maxRetries: 5 })
    analytics.on('error', error => failures.push(error))
    for (const c of calls) analytics[c.call](message(c))
    await analytics.closeAndFlush({ timeout: 60000 })
  },

  async 'analytics-node'() {
    const analytics = new LegacyAnalytics(writeKey, { host, flushAt: 100, flushInterval: 0, retryCount: 5 })
    await sent(calls.map(c => done => analytics[c.call](message(c), done)), () => analytics.flush())
  },

  async '@rudderstack/rudder-sdk-node'() {
    const analytics = new RudderAnalytics(writeKey, { dataPlaneUrl: host, flushAt: 100, flushInterval: 1e6, retryCount: 5 })
    await sent(calls.map(c => done => analytics[c.call](message(c), done)), () => analytics.flush())
  },

  // Consent is a setting of this one. The rest of the context is given as a setting too, since what one call brings with
  // it stays for the calls after it.
  async '@jitsu/js'() {
    const analytics = jitsuAnalytics({ host, writeKey: `${writeKey}:a-secret`, errorPolicy: 'rethrow', s2s: mode === 's2s' })
    for (const { call, send } of calls) {
      const { consent, ...context } = structuredClone(send.context)
      analytics.configure({ defaultPayloadContext: context, privacy: { consentCategories: consent?.categoryPreferences ?? {} } })
      const { anonymousId, userId, traits, properties } = structuredClone(send)
      const options = { anonymousId, userId }
      if (call === 'track') await analytics.track(send.event, properties, options)
      if (call === 'page') await analytics.page({ ...properties, name: send.name }, options)
      if (call === 'identify') await analytics.identify(userId, traits, options)
      if (call === 'group') await analytics.group(send.groupId, traits, options)
    }
  },
}

// Makes calls that tell by a callback what became of them.
async function sent(enqueue, flush) {
  const done = enqueue.map(call => new Promise(resolve => call(err => { if (err) failures.push(err); resolve() })))
  await flush()
  await Promise.all(done)
}

await sdks[sdk]()
if (failures.length) {
  console.error(failures)
  process.exit(1)
}
process.exit(0)
