package edge

import "github.com/coreos/go-systemd/v22/daemon"

const (
	ready    = daemon.SdNotifyReady
	stopping = daemon.SdNotifyStopping
)

// reloading tells when it began, by which systemd knows its own request.
func reloading() string { return daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec() }

// notify tells systemd, if it started us, how we are. Nothing depends on it.
func notify(state string) { _, _ = daemon.SdNotify(false, state) }
