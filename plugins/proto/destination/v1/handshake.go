// Package destinationv1 is version 1 of the protocol between Sluis and a
// destination plugin, generated from destination.proto by "buf generate" in
// plugins/proto. Authors of plugins in Go use plugins/destination instead.
package destinationv1

// What the two sides must know of each other before the first message. The
// cookie keeps a person from starting a plugin by hand; it is no secret.
const (
	HandshakeKey    = "SLUIS_DESTINATION_PLUGIN"
	HandshakeValue  = "4f0b3c9e-sluis-destination"
	ProtocolVersion = 1
	// PluginName is the one service that a plugin process offers.
	PluginName = "destination"
	// EgressProxyEnv names the variable with the address of the HTTP proxy that
	// is a confined plugin's only way out, also to this machine itself. It is
	// not set for others.
	EgressProxyEnv = "SLUIS_EGRESS_PROXY"
)
