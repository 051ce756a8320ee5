package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A confined plugin is started in two steps. The host starts its own program
// again, in new namespaces; that process gives up what the plugin must not have
// and then becomes the plugin, by exec. Between fork and exec there is no place
// for it in Go, and done from outside the plugin would be running already.

// confinedArg is the name by which that process knows what it is for.
const confinedArg = "sluis-confined-plugin"

// What it finds open beside its standard files.
const (
	programFD = 3 // what to become: verified, and sealed
	controlFD = 4 // a socket to the host
)

// confinedSpec is what the host tells it.
type confinedSpec struct {
	Args    []string // the plugin's own
	Scratch string
	Memory  uint64
}

// init takes over if this process is to become a plugin. It is no function to
// call from main: a program that forgot it would start itself in the plugin's
// stead, again and again.
func init() { //nolint:gochecknoinits // see above
	if len(os.Args) != 2 || os.Args[0] != confinedArg {
		return
	}
	runtime.LockOSThread() // Landlock and capabilities are a thread's, and exec keeps the thread's
	err := becomePlugin(os.Args[1])
	_, _ = unix.Write(controlFD, []byte(err.Error()))
	os.Exit(127) //nolint:forbidigo // there is no main to return to
}

// becomePlugin does not return, unless it fails.
func becomePlugin(text string) error {
	var spec confinedSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	for _, fd := range []int{programFD, controlFD} {
		unix.CloseOnExec(fd)
	}
	listener, port, err := listenInside()
	if err != nil {
		return fmt.Errorf("open its network: %w", err)
	}
	if err := renounce(spec); err != nil {
		return err
	}
	if err := unix.Sendmsg(controlFD, []byte(confinedReady), unix.UnixRights(listener), nil, 0); err != nil {
		return fmt.Errorf("answer the host: %w", err)
	}
	environment := append(os.Environ(), proxyEnvironment(port, spec.Scratch)...) //nolint:forbidigo // it is what the host chose
	return fmt.Errorf("execute it: %w", execFD(programFD, spec.Args, environment))
}

// listenInside brings up the loopback of the new network, in which there is
// nothing else, and listens there for the host.
func listenInside() (listener, port int, err error) {
	listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return 0, 0, err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(listener, unix.SIOCSIFFLAGS, lo); err != nil {
		return 0, 0, fmt.Errorf("bring up loopback: %w", err)
	}
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, 0, err
	}
	if err := unix.Listen(listener, 64); err != nil {
		return 0, 0, err
	}
	bound, err := unix.Getsockname(listener)
	if err != nil {
		return 0, 0, err
	}
	address, ok := bound.(*unix.SockaddrInet4)
	if !ok {
		return 0, 0, fmt.Errorf("bound to a %T", bound)
	}
	return listener, address.Port, nil
}

// renounce drops, for good, what the plugin must not have.
func renounce(spec confinedSpec) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("renounce privileges: %w", err)
	}
	if err := restrictFiles(spec.Scratch); err != nil {
		return fmt.Errorf("restrict its files with Landlock: %w", err)
	}
	for resource, limit := range map[int]uint64{
		unix.RLIMIT_CORE:   0, // a core has personal data
		unix.RLIMIT_DATA:   spec.Memory,
		unix.RLIMIT_FSIZE:  maxFileSize,
		unix.RLIMIT_NOFILE: maxFiles,
		unix.RLIMIT_NPROC:  maxProcesses,
	} {
		if err := lower(resource, limit); err != nil {
			return fmt.Errorf("limit its resources: %w", err)
		}
	}
	// Without capabilities that it may have no exec gives it any, since it has
	// renounced privileges.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// lower sets a limit, or leaves one that is lower already.
func lower(resource int, limit uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err != nil {
		return err
	}
	limit = min(limit, now.Max)
	return unix.Prlimit(0, resource, &unix.Rlimit{Cur: limit, Max: limit}, nil)
}

// What Landlock is to watch: all that the first version knew, and then what
// each later one has added. A kernel refuses what it does not know.
const landlockFirst = 1<<13 - 1

var landlockLater = []uint64{
	unix.LANDLOCK_ACCESS_FS_REFER, unix.LANDLOCK_ACCESS_FS_TRUNCATE,
	unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX,
}

const (
	landlockRead    = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	landlockFile    = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	landlockProgram = landlockRead | unix.LANDLOCK_ACCESS_FS_EXECUTE
)

// readable are what programs want of a system, where it is there. None of it
// is anybody's.
var readable = map[string]uint64{
	"/usr": landlockProgram, "/lib": landlockProgram, "/lib64": landlockProgram, "/bin": landlockProgram,
	"/etc/ssl": landlockRead, "/etc/pki": landlockRead, "/etc/ca-certificates": landlockRead,
	"/etc/ld.so.cache": landlockRead, "/etc/localtime": landlockRead, "/etc/hosts": landlockRead,
	"/etc/resolv.conf": landlockRead, "/etc/nsswitch.conf": landlockRead,
	"/dev/null": landlockRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE, "/dev/zero": landlockRead,
	"/dev/random": landlockRead, "/dev/urandom": landlockRead,
	"/proc/self": landlockRead,
}

// restrictFiles confines this thread, and what it executes, to what is readable
// and to the scratch directory.
func restrictFiles(scratch string) error {
	ruleset, handled, err := newRuleset()
	if err != nil {
		return err
	}
	defer unix.Close(ruleset) //nolint:errcheck // the exec would
	for path, access := range readable {
		if err := allow(ruleset, path, access&handled); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := allow(ruleset, scratch, handled); err != nil {
		return fmt.Errorf("its temporary directory: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// newRuleset watches as much as this kernel can.
func newRuleset() (fd int, handled uint64, err error) {
	for n := len(landlockLater); n >= 0; n-- {
		handled = landlockFirst
		for _, access := range landlockLater[:n] {
			handled |= access
		}
		// The first 8 bytes are what every version has.
		attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
		fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), 8, 0)
		if errno == 0 {
			return int(fd), handled, nil
		}
		if err = errno; errno != unix.EINVAL {
			break
		}
	}
	return 0, 0, err
}

// allow adds what is at path, and below it, to what may be accessed.
func allow(ruleset int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // a descriptor of a path has nothing to lose
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= landlockFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// execFD becomes the program that is open as fd.
func execFD(fd int, args, environment []string) error {
	empty, err := unix.BytePtrFromString("")
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(environment)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	return errno
}

// confine makes of a command for the plugin one that confines itself first. What
// it returns is the host's end of the socket between them, and to be closed.
func (c *confined) confine(cmd *exec.Cmd, program *os.File) (*net.UnixConn, error) {
	spec, err := json.Marshal(confinedSpec{Args: cmd.Args, Scratch: c.scratch, Memory: c.memory})
	if err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket to it: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	defer ours.Close() //nolint:errcheck // FileConn has made a copy
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a socket to it: %w", err), theirs.Close())
	}
	cmd.Path, cmd.Args = "/proc/self/exe", []string{confinedArg, string(spec)}
	cmd.ExtraFiles = []*os.File{program, theirs}
	attr := cmd.SysProcAttr
	attr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	attr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN} // to bring up loopback; then it is dropped
	return conn.(*net.UnixConn), nil
}

// started closes what only the child needs.
func (c *confined) started(cmd *exec.Cmd) { _ = cmd.ExtraFiles[1].Close() }

// await returns when the child has become the plugin, and begins to serve its
// way out. It ends with the child.
func (c *confined) await(control *net.UnixConn) error {
	message, oob := make([]byte, 512), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := control.ReadMsgUnix(message, oob)
	if err != nil || string(message[:n]) != confinedReady {
		return cannotConfine(errors.New(lastWords(message[:n])))
	}
	listener, err := received(oob[:oobn])
	if err != nil {
		return cannotConfine(err)
	}
	if n, _ := control.Read(message); n > 0 {
		return errors.Join(errors.New(lastWords(message[:n])), listener.Close())
	}
	c.way.serve(listener)
	return nil
}

func lastWords(words []byte) string {
	if len(words) == 0 {
		return "it ended before it was confined"
	}
	return shorten(string(words), maxWords)
}

// received takes the listener out of a message.
func received(oob []byte) (net.Listener, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil, errors.New("it sent no listener")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("it sent no listener")
	}
	unix.CloseOnExec(fds[0])
	file := os.NewFile(uintptr(fds[0]), "listener")
	defer file.Close() //nolint:errcheck // FileListener has made a copy
	return net.FileListener(file)
}
