package host

import "log/slog"

// Approves tells of each address whether a plugin that declares those hosts, and
// has that configuration, may connect to it.
func Approves(declared []string, config map[string]string, addresses map[string]bool) map[string]bool {
	e := newEgress(declared, slog.New(slog.DiscardHandler))
	e.configure(config)
	out := map[string]bool{}
	for address := range addresses {
		out[address] = e.approves(address)
	}
	return out
}
