// Writes random TC strings, made by the IAB's encoder, with what they were made of: node tcf.mjs SEED COUNT
import { createRequire } from 'node:module'
import { head, random, ranges } from './random.mjs'

const require = createRequire(import.meta.url)
const { GVL, PurposeRestriction, Segment, TCModel, TCString } = require('@iabtechlabtcf/core')
const version = require('./package.json').dependencies['@iabtechlabtcf/core']

const [seed, count] = process.argv.slice(2).map(Number)
const r = random(seed)
head(`@iabtechlabtcf/core@${version}`, seed, count)

const all = Array.from({ length: 11 }, (_, i) => i + 1)

// A vendor list in which each vendor may do anything, so that the encoder takes no signal back.
function gvl(dense, more) {
  const vendors = {}
  for (const id of [...Array.from({ length: dense }, (_, i) => i + 1), ...more]) {
    vendors[id] = { id, name: `${id}`, purposes: all, legIntPurposes: all, flexiblePurposes: all, specialPurposes: [], features: [], specialFeatures: [] }
  }
  const list = new GVL({
    gvlSpecificationVersion: 3, vendorListVersion: 1 + r.below(4095), tcfPolicyVersion: 2 + r.below(4), lastUpdated: new Date(0),
    purposes: Object.fromEntries(all.map((id) => [id, { id }])), specialPurposes: {}, features: {}, specialFeatures: {}, stacks: {}, dataCategories: {}, vendors,
  })
  return list
}

for (let n = 0; n < count; n++) {
  const dense = 1 + r.below(1200)
  const [consents, interests, disclosed, allowed] = Array.from({ length: 4 }, () => r.vendors(dense))
  const list = gvl(dense, [...consents, ...interests].filter((id) => id > dense))
  const model = new TCModel(list)
  const want = {
    created: r.day(), lastUpdated: r.day(), cmpId: 2 + r.below(4094), cmpVersion: 2 + r.below(4094), consentScreen: r.below(64), consentLanguage: 'EN',
    vendorListVersion: list.vendorListVersion, policyVersion: list.tcfPolicyVersion,
    isServiceSpecific: r.bool(), useNonStandardTexts: r.bool(), purposeOneTreatment: r.bool(), publisherCountryCode: r.letters(2),
    specialFeatureOptins: r.some(12), purposeConsents: r.some(24), purposeLegitimateInterests: r.some(24).filter((id) => ![1, 3, 4, 5, 6].includes(id)),
  }
  for (const [field, value] of Object.entries(want)) {
    if (Array.isArray(value)) model[field].set(value)
    else if (!['consentLanguage', 'vendorListVersion', 'policyVersion'].includes(field)) model[field] = value
  }
  model.vendorConsents.set(consents)
  model.vendorLegitimateInterests.set(interests)
  const restrictions = {}
  for (let i = r.below(4); i > 0; i--) {
    const [purpose, type] = [1 + r.below(11), r.below(3)]
    const vendors = r.some(Math.min(dense, 1 + r.below(300)), r.pick([0.05, 0.5, 0.95]))
    if (vendors.length === 0 || restrictions[`${purpose} ${type}`]) continue
    restrictions[`${purpose} ${type}`] = ranges(vendors)
    for (const id of vendors) model.publisherRestrictions.add(id, new PurposeRestriction(purpose, type))
  }
  const segments = [Segment.CORE]
  if (r.bool(0.8)) {
    segments.push(Segment.VENDORS_DISCLOSED)
    model.vendorsDisclosed.set(disclosed)
    want.vendorsDisclosed = ranges(disclosed)
  }
  if (r.bool(0.1)) {
    segments.push(Segment.VENDORS_ALLOWED)
    model.vendorsAllowed.set(allowed)
    want.vendorsAllowed = ranges(allowed)
  }
  if (r.bool(0.6)) {
    segments.push(Segment.PUBLISHER_TC)
    const custom = r.below(64)
    want.publisher = { consents: r.some(24), legitimateInterests: r.some(24), custom, customConsents: r.some(custom), customLegitimateInterests: r.some(custom) }
    model.publisherConsents.set(want.publisher.consents)
    model.publisherLegitimateInterests.set(want.publisher.legitimateInterests)
    model.numCustomPurposes = custom
    model.publisherCustomConsents.set(want.publisher.customConsents)
    model.publisherCustomLegitimateInterests.set(want.publisher.customLegitimateInterests)
  }
  console.log(JSON.stringify({ string: TCString.encode(model, { segments }), ...want, vendorConsents: ranges(consents), vendorLegitimateInterests: ranges(interests), restrictions }))
}
