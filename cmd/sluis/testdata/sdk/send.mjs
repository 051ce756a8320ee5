// Sends events with the unchanged Segment SDK: node send.mjs HOST WRITE_KEY
import { Analytics } from '@segment/analytics-node'

const [host, writeKey] = process.argv.slice(2)
const analytics = new Analytics({ writeKey, host, flushAt: 3, maxRetries: 2 })
const failures = []
analytics.on('error', error => failures.push(error))

const granted = { consent: { categoryPreferences: { identity: true, analytics: true, marketing: true } } }
const refused = { consent: { categoryPreferences: { identity: true, analytics: false, marketing: false } } }
for (let i = 0; i < 10; i++) {
  analytics.track({ anonymousId: `sdk-canary-${i}`, event: 'Sent by SDK', properties: { n: i, email: 'sdk-canary@example.com' }, context: granted })
}
analytics.identify({ userId: 'sdk-canary-user', traits: { email: 'sdk-canary@example.com' }, context: granted })
analytics.page({ anonymousId: 'sdk-canary-0', name: 'Pricing', properties: { path: '/pricing' }, context: granted })
analytics.track({ anonymousId: 'sdk-canary-refuses', event: 'sdk-canary-refused', context: refused })
analytics.track({ anonymousId: 'sdk-canary-silent', event: 'sdk-canary-silent' })
await analytics.closeAndFlush({ timeout: 10000 })
if (failures.length) {
  console.error(failures)
  process.exit(1)
}
