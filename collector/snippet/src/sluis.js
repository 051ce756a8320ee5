// sluis.js is the browser's side of the collector: the calls of analytics.js, with consent built in.
//
// Until the visitor has chosen, events are held in memory: nothing leaves the page, nothing is stored on the device. When
// any purpose is granted they go out with their own times, and the collector decides for each; when all are refused they
// are destroyed. What lasts longer than the page (an id, events that could not be sent) needs the purpose `identity`.
(() => {
  const script = document.currentScript
  const { writeKey, endpoint = script.src, identity = 'cookie', maxAge = 180, pageViews, global = 'sluis' } = script.dataset
  const api = window[global] ||= []
  if (api.version) return // the tag is in the page twice
  api.version = VERSION

  const maxQueue = 256 // events: the first ones stay, they say where the visit came from
  const maxBody = 6e4 // bytes: browsers let 64 KiB outlive the page
  const stores = identity != 'none'

  // --- What is on the device: one entry with the choice and what it allows, and one per page that could not send all.

  const tried = (action, otherwise) => { try { return action() } catch { return otherwise } } // storage is full, or forbidden
  const read = (key, otherwise) => tried(() => JSON.parse(localStorage[key]), otherwise)
  const write = (key, value) => tried(() => value ? localStorage[key] = JSON.stringify(value) : delete localStorage[key])
  const uuid = () => '10000000-1000-4000-8000-100000000000'.replace(/[018]/g, digit =>
    (digit ^ crypto.getRandomValues(new Uint8Array(1))[0] & 15 >> digit / 4).toString(16))
  const queueKey = 'sluis:' + uuid()

  let anonymousId, userId, chosenAt
  let subject // the anonymous id by which the visitor agreed to be recognised, if the page keeps it
  let told // the choice that the collector knows

  const lasting = () => stores && preferences.identity
  const recall = () => {
    let saved = stores && read('sluis') || {}
    if (!(Date.now() - saved.at < maxAge * 864e5)) { // the visitor is to be asked again
      saved = {}
      if (stores) write('sluis')
    }
    ({ at: chosenAt, told, subject, userId } = saved)
    anonymousId = subject || uuid()
    hear('own', saved.choice, true)
  }
  const remember = () => {
    if (!stores || !decided) return
    chosenAt ||= Date.now()
    write('sluis', { at: chosenAt, choice: said.own, told, subject, userId: preferences.identity ? userId : undefined })
  }
  const save = () => {
    const unsent = [...sending, ...queue]
    if (stores) write(queueKey, lasting() && unsent.length && unsent)
  }
  // collect takes over what earlier pages could not send, once, and destroys it where it may no longer be kept.
  let collected
  const collect = () => {
    if (!stores || collected && preferences.identity) return
    collected = true
    for (const key of tried(() => Object.keys(localStorage), [])) {
      if (key == queueKey || !key.startsWith('sluis:')) continue
      if (preferences.identity) queue = [...read(key, []), ...queue].slice(0, maxQueue)
      write(key)
    }
  }

  // --- Consent: what each signal says. A denial by any of them wins; null is a signal that has not spoken yet.

  const said = { gpc: navigator.globalPrivacyControl ? { advertising: false, sale: false } : undefined }
  let preferences = {}, decided, granted

  const hear = (signal, verdicts, recalled) => {
    said[signal] = verdicts
    preferences = {}
    for (const verdicts of Object.values(said)) {
      for (const purpose in verdicts) preferences[purpose] = verdicts[purpose] && preferences[purpose] !== false
    }
    decided = (said.own || said.tcf || said.gcm) && !Object.values(said).includes(null)
    granted = decided && Object.keys(preferences).some(purpose => preferences[purpose] && purpose != 'necessary')
    if (!decided) return
    if (!granted) queue = []
    if (preferences.identity) {
      if (identity == 'client') subject = anonymousId
    } else if (subject == anonymousId) {
      anonymousId = uuid()
      for (const message of queue) if (message) message.anonymousId = anonymousId
    }
    collect()
    if (!recalled) remember() // or a tab would overwrite what another one has just heard
    save()
    schedule()
  }

  // A purpose is granted by all of its keys. Legitimate interest is no consent, and marketing and sale have no key.
  const translate = (table, granted, known) => Object.fromEntries(Object.entries(table)
    .map(([purpose, keys]) => [purpose, keys.filter(known)])
    .filter(([, keys]) => keys.length)
    .map(([purpose, keys]) => [purpose, keys.every(granted)]))
  const tcfPurposes = { identity: [1], analytics: [8, 9], personalization: [5, 6], advertising: [2, 3, 4, 7] }
  const gcmPurposes = {
    identity: ['analytics_storage'], analytics: ['analytics_storage'], personalization: ['personalization_storage'],
    advertising: ['ad_storage', 'ad_user_data', 'ad_personalization'],
  }

  const watch = () => {
    const { __tcfapi: tcf, __gpp: gpp } = window
    if (tcf && !('tcf' in said)) {
      hear('tcf', null)
      tcf('addEventListener', 2, (data, ok) => {
        if (!ok) return
        if (data.gdprApplies === false) hear('tcf')
        else if (/^(tcloaded|useractioncomplete)$/.test(data.eventStatus)) {
          hear('tcf', translate(tcfPurposes, key => data.purpose?.consents?.[key] === true, () => true))
        }
      })
    }
    if (gpp && !('gpp' in said)) {
      hear('gpp', null)
      gpp('addEventListener', event => {
        const { signalStatus, parsedSections } = event?.pingData || {}
        if (signalStatus != 'ready') return
        const denied = {}
        JSON.stringify(parsedSections, (key, value) => { // 1 is "opted out", in every section that has it
          if (value == 1 && /^(Sale|Sharing|TargetedAdvertising)OptOut$|^Gpc$/.test(key)) {
            denied.sale = false
            if (key != 'SaleOptOut') denied.advertising = false
          }
          return value
        })
        hear('gpp', denied)
      })
    }
  }

  // Google Consent Mode: its defaults are what holds before a choice, so they count from the first update on.
  const consentMode = {}
  const watchConsentMode = () => {
    const layer = window.dataLayer ||= []
    const look = entry => {
      if (entry?.[0] != 'consent' || !entry[2] || entry[2].region) return
      Object.assign(consentMode, entry[2])
      if (entry[1] == 'update') hear('gcm', translate(gcmPurposes, key => consentMode[key] == 'granted', key => key in consentMode))
    }
    layer.forEach(look)
    const push = layer.push
    layer.push = (...entries) => {
      entries.forEach(look)
      return push.apply(layer, entries)
    }
  }

  // --- Sending: one request at a time, in order; JSON as text/plain, for which browsers ask no leave first.

  let queue = [] // messages, and null where the visitor was reset
  let sending = [] // the messages of the request that is under way
  let busy, timer, failures = 0

  // take removes what is to be sent next, and returns it with a way back. A choice goes before the events it allows; from
  // a page that closes they go first, since both at once could give the visitor two ids.
  const take = closing => {
    const choice = String(Object.entries(preferences).sort())
    if (stores && told != choice && !(closing && queue.length)) {
      told = '' // from here on the collector may have heard, whether or not this page learns of it
      remember()
      told = choice
      return ['consent', { purposes: preferences, userId, anonymousId: subject }, [], () => { told = '' }]
    }
    let n = 0, size = 0
    while (n < queue.length) {
      size += new Blob([JSON.stringify(queue[n])]).size
      if (n && size > maxBody || !queue[n++]) break
    }
    const messages = queue.splice(0, n)
    return n && ['batch', {
      context: { library: { name: 'sluis.js', version: VERSION }, consent: { categoryPreferences: preferences } },
      batch: messages.filter(Boolean).map(message => identity == 'cookie' && preferences.identity ? { ...message, anonymousId: undefined } : message),
      reset: messages.includes(null) || undefined,
    }, messages, () => { if (granted) queue = [...messages, ...queue] }]
  }
  const encode = ([path, body]) => [new URL('v1/' + path, endpoint), JSON.stringify({ writeKey, sentAt: new Date(), ...body })]

  const settle = ([path, { purposes }]) => {
    if (path != 'consent') return
    if (!purposes.identity && !preferences.identity) subject = undefined // the collector has heard whom it may no longer recognise
    remember()
  }

  const flush = async () => {
    timer = clearTimeout(timer)
    const request = decided && !busy && take()
    if (!request) return
    const [url, body] = encode(request)
    let wait
    busy = true
    sending = request[2]
    try {
      const { status, headers } = await fetch(url, { method: 'POST', body, credentials: 'include', keepalive: body.length < maxBody, signal: AbortSignal.timeout?.(3e4) })
      if (status == 408 || status == 429 || status > 499) wait = +headers.get('Retry-After') || 1
    } catch {
      wait = 1
    }
    busy = false
    sending = []
    if (wait) {
      request[3]()
      wait = Math.max(wait, Math.min(2 ** failures++, 300)) * (1 + Math.random() / 2)
    } else {
      failures = 0
      settle(request)
    }
    save()
    schedule(wait * 1e3)
  }
  const schedule = (wait = 200) => { timer ||= setTimeout(flush, wait) }

  // leave hands over what is left to the browser, which does not say whether it arrived. So what may wait on the device
  // does so while the collector cannot be reached.
  const leave = () => {
    while (decided && navigator.onLine && !(failures && lasting())) {
      const request = take(true)
      if (!request) break
      if (!navigator.sendBeacon(...encode(request))) {
        request[3]()
        break
      }
      settle(request)
    }
    save()
  }

  // --- The calls of analytics.js: up to n texts, then data, options and a callback, each of which may be left out.

  let calledAt // of a call that the stub kept
  let viewed // the address of the last page view
  let referrer = document.referrer
  const address = () => location.href.split('#')[0]

  const define = (type, n, fields) => {
    api[type] = (...args) => {
      const texts = []
      while (texts.length < n && args.length && (args[0] == null || !/object|function/.test(typeof args[0]))) texts.push(args.shift() ?? undefined)
      const callback = args.find(arg => typeof arg == 'function')
      const [data, options] = args.filter(arg => typeof arg != 'function')
      const { context, integrations, timestamp } = options || {}
      const message = {
        type, messageId: uuid(), anonymousId, originalTimestamp: timestamp || calledAt || new Date(), integrations,
        ...fields(texts, data || {}),
        context: { page: { path: location.pathname, referrer, search: location.search, title: document.title, url: address() }, ...context },
      }
      message.userId ??= userId
      if ((granted || !decided) && queue.length < maxQueue) {
        // A copy, since the page may go on to change what it gave. What is no JSON must not break the page.
        try { queue.push(JSON.parse(JSON.stringify(message))) } catch (error) { console.error('sluis:', error) }
      }
      schedule()
      if (callback) setTimeout(callback)
    }
  }
  define('track', 1, ([event], properties) => ({ event, properties }))
  define('page', 2, (texts, properties) => ({ name: texts.pop(), category: texts.pop(), properties }))
  define('group', 1, ([groupId], traits) => ({ groupId, traits }))
  define('alias', 2, ([to, from]) => ({ userId: to, previousId: from ?? userId }))
  define('identify', 1, ([id], traits) => {
    userId = id ?? userId
    remember()
    return { traits }
  })
  api.reset = () => {
    userId = undefined
    anonymousId = uuid()
    if (subject && preferences.identity) subject = anonymousId
    if (identity == 'cookie' && (granted || !decided)) queue.push(null)
    remember()
    leave()
  }
  api.ready = callback => { setTimeout(callback) }
  // consent takes the visitor's choice, {analytics: true, marketing: false}; without one it says what holds, if anything does.
  api.consent = choice => {
    if (!choice) return decided ? { ...preferences } : undefined
    chosenAt = Date.now()
    hear('own', { ...said.own, ...Object.fromEntries(Object.entries(choice).map(([purpose, value]) => [purpose, value === true])) })
  }

  // --- Page views, also of pages that change their address, come back out of the cache, or are rendered ahead.

  const view = again => {
    if (!again && viewed == address()) return
    if (viewed && !again) referrer = viewed
    viewed = address()
    api.page()
  }
  const soon = () => { setTimeout(view) } // when the page has its new title
  const watchPages = () => {
    view()
    for (const method of ['pushState', 'replaceState']) {
      const original = history[method]
      history[method] = (...args) => {
        original.apply(history, args)
        soon()
      }
    }
    addEventListener('popstate', soon)
  }
  const start = () => {
    recall()
    watch()
    watchConsentMode()
    api.push = ([at, method, args]) => {
      calledAt = at
      api[method]?.(...args)
      calledAt = undefined
    }
    api.splice(0).forEach(api.push)
    if (pageViews != 'manual') watchPages()
    addEventListener('load', watch)
    addEventListener('storage', event => {
      if (event.key != 'sluis') return
      schedule(5e3) // the tab that was asked tells the collector; this one only if that did not
      recall()
    })
    addEventListener('online', flush)
    addEventListener('pagehide', leave)
    document.addEventListener('visibilitychange', () => document.visibilityState == 'hidden' && leave())
    addEventListener('pageshow', event => {
      if (!event.persisted) return
      if (stores) recall() // another page may have heard another choice
      else anonymousId = uuid()
      if (pageViews != 'manual') view(true)
    })
  }
  if (document.prerendering) document.addEventListener('prerenderingchange', start, { once: true })
  else start()
})()
