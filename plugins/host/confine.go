package host

import (
	"errors"
	"fmt"
	"net"
	"strconv"
)

// Confinement is what a plugin that somebody else wrote may use. Linux alone
// can keep it there, and from the first instruction:
//
//   - network: the plugin is in a network namespace of its own, in which there is
//     nothing but the host's proxy, and that connects to Egress alone;
//   - files: Landlock lets it read the system's programs, libraries, time zones and
//     certificates, and write below its temporary directory. It cannot read the
//     workspace, nor the memory, environment or files of other processes;
//   - processes: it is in a process namespace of its own, whose end is the end of
//     all that it started, wherever that has moved to;
//   - rights: it has no capabilities, and cannot get any;
//   - sizes: memory, files, descriptors and processes are bounded.
//
// No right is needed for that but to make a user namespace.
type Confinement struct {
	// Egress are the hosts, or host:port, that the plugin may connect to, as in a
	// [destination.Description]. A host without a port may be reached at any.
	Egress []string
	// Memory is how many bytes the plugin may allocate; 0 means a gibibyte. The
	// kernel counts private memory (RLIMIT_DATA), each process by itself.
	Memory uint64
}

// ErrCannotConfine is wrapped by the error of Start if the system does not let
// a plugin be confined. It has not been started.
var ErrCannotConfine = errors.New("this system does not let plugins be confined")

const (
	defaultMemory = 1 << 30
	maxFileSize   = 256 << 20
	maxFiles      = 1024
	maxProcesses  = 256 // threads included; the superuser's are not counted
)

// confined is a plugin's confinement as it is carried out.
type confined struct {
	scratch string // the one directory that it may write to
	memory  uint64
	way     *egress
}

// The first message of the process that becomes the plugin, on the socket that
// the host gave it: this, with the listener in the plugin's network. Anything
// after it is what went wrong.
const confinedReady = "confined"

// proxyEnvironment tells programs of every kind of the proxy.
func proxyEnvironment(port int, scratch string) []string {
	address := "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	environment := []string{"TMPDIR=" + scratch}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", egressProxyEnv} {
		environment = append(environment, name+"="+address)
	}
	return environment
}

// cannotConfine says why, and what remains.
func cannotConfine(err error) error {
	return fmt.Errorf("%w: %w", ErrCannotConfine, err)
}
