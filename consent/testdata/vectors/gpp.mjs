// Writes random GPP strings over all sections, made by the IAB's encoder, with what they were made of: node gpp.mjs SEED COUNT
import { createRequire } from 'node:module'
import { head, random, ranges } from './random.mjs'

const require = createRequire(import.meta.url)
const { GppModel, RangeEntry } = require('@iabgpp/cmpapi')

const [seed, count] = process.argv.slice(2).map(Number)
const r = random(seed)
head(`@iabgpp/cmpapi@${require('./package.json').dependencies['@iabgpp/cmpapi']}`, seed, count)

const states = 'ca va co ut ct fl mt or tx de ia ne nh nj tn mn md in ky ri'.split(' ')
const names = ['tcfeuv2', 'tcfcav1', 'uspv1', 'usnat', ...states.map((s) => 'us' + s)]

const flags = (n, ids) => Array.from({ length: n }, (_, i) => ids.includes(i + 1))

// A section of the US has the fields that the encoder's own defaults show, each an answer or a list of them.
function us(model, name, defaults) {
  const want = {}
  for (const [field, value] of Object.entries(defaults)) {
    if (field === 'Version' || field === 'MspaVersion' || field === 'GpcSegmentType') continue
    if (typeof value === 'boolean') want[field] = r.bool()
    else if (Array.isArray(value)) want[field] = value.map(() => r.below(3))
    else want[field] = field === 'MspaCoveredTransaction' ? 1 + r.below(2) : r.below(3)
  }
  if (name === 'usnat' && r.bool(0.3)) model.setFieldValue(name, 'Version', want.Version = 1)
  for (const [field, value] of Object.entries(want)) model.setFieldValue(name, field, value)
  // What follows behind a dot may be left out.
  if ('Gpc' in want && r.bool(0.2)) {
    model.setFieldValue(name, 'GpcSegmentIncluded', false)
    delete want.Gpc
  }
  if (model.hasField(name, 'SensitiveDataConsentSegmentIncluded') && r.bool(0.2)) {
    model.setFieldValue(name, 'SensitiveDataConsentSegmentIncluded', false)
    delete want.SensitiveDataProcessing
  }
  if (want.Version === 1) {
    want.SensitiveDataProcessing.length = 12
    want.KnownChildSensitiveDataConsents.length = 2
  }
  return want
}

function usp(model, name) {
  const want = { Notice: r.pick(['Y', 'N', '-']), OptOutSale: r.pick(['Y', 'N', '-']), LspaCovered: r.pick(['Y', 'N', '-']) }
  for (const [field, value] of Object.entries(want)) model.setFieldValue(name, field, value)
  return want
}

function tcf(model, name) {
  const canada = name === 'tcfcav1'
  const [consents, interests, disclosed] = Array.from({ length: 3 }, () => r.vendors(1200))
  const want = {
    CmpId: r.below(4096), CmpVersion: r.below(4096), ConsentScreen: r.below(64), ConsentLanguage: r.letters(2), VendorListVersion: r.below(4096),
    [canada ? 'TcfPolicyVersion' : 'PolicyVersion']: r.below(64), UseNonStandardStacks: r.bool(),
  }
  const custom = r.below(64)
  const li = (ids) => canada ? ids : ids.filter((id) => ![1, 3, 4, 5, 6].includes(id))
  const sets = canada
    ? { SpecialFeatureExpressConsent: [12, r.some(12)], PurposesExpressConsent: [24, r.some(24)], PurposesImpliedConsent: [24, r.some(24)],
        PubPurposesExpressConsent: [24, r.some(24)], PubPurposesImpliedConsent: [24, r.some(24)],
        CustomPurposesExpressConsent: [custom, r.some(custom)], CustomPurposesImpliedConsent: [custom, r.some(custom)] }
    : { SpecialFeatureOptins: [12, r.some(12)], PurposeConsents: [24, r.some(24)], PurposeLegitimateInterests: [24, li(r.some(24))],
        PublisherConsents: [24, r.some(24)], PublisherLegitimateInterests: [24, r.some(24)],
        PublisherCustomConsents: [custom, r.some(custom)], PublisherCustomLegitimateInterests: [custom, r.some(custom)] }
  if (!canada) Object.assign(want, { IsServiceSpecific: true, PurposeOneTreatment: r.bool(), PublisherCountryCode: r.letters(2) })
  for (const [field, value] of Object.entries(want)) model.setFieldValue(name, field, value)
  model.setFieldValue(name, 'NumCustomPurposes', want.NumCustomPurposes = custom)
  for (const [field, [n, ids]] of Object.entries(sets)) {
    model.setFieldValue(name, field, flags(n, ids))
    want[field] = ids
  }
  const vendors = canada
    ? { VendorExpressConsent: consents, VendorImpliedConsent: interests, DisclosedVendors: disclosed }
    : { VendorConsents: consents, VendorLegitimateInterests: interests, VendorsDisclosed: disclosed }
  for (const [field, ids] of Object.entries(vendors)) {
    model.setFieldValue(name, field, [...ids])
    want[field] = ranges(ids)
  }
  want.restrictions = []
  const entries = []
  for (let i = r.below(4); i > 0; i--) {
    const [purpose, type, ids] = [1 + r.below(24), r.below(3), r.some(1 + r.below(200), r.pick([0.05, 0.5, 0.95]))]
    entries.push(new RangeEntry(purpose, type, [...ids]))
    want.restrictions.push(`${purpose} ${type} ${ranges(ids)}`)
  }
  model.setFieldValue(name, canada ? 'PubRestrictions' : 'PublisherRestrictions', entries)
  const day = r.day()
  model.setFieldValue(name, 'Created', day)
  model.setFieldValue(name, 'LastUpdated', day)
  want.LastUpdated = day
  return want
}

for (let n = 0; n < count; n++) {
  const chosen = new Set(Array.from({ length: 1 + r.below(r.pick([1, 4, names.length])) }, () => r.pick(names)))
  const model = new GppModel()
  const sections = {}
  for (const name of names.filter((name) => chosen.has(name))) {
    if (name.startsWith('tcf')) sections[name] = tcf(model, name)
    else if (name === 'uspv1') sections[name] = usp(model, name)
    else {
      const blank = new GppModel()
      blank.setFieldValue(name, 'SaleOptOut', 0)
      sections[name] = us(model, name, blank.getSection(name))
    }
  }
  console.log(JSON.stringify({ string: model.encode(), sections }))
}
