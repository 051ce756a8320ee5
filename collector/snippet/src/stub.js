// The stub stands in the page before sluis.js has come: it keeps calls, with their time.
(name => {
  const api = window[name] ||= []
  for (const method of ['identify', 'track', 'page', 'group', 'alias', 'reset', 'ready', 'consent']) {
    api[method] ||= (...args) => { api.push([new Date(), method, args]) }
  }
})(document.currentScript.dataset.global || 'sluis')
