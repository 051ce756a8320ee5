package edge

import (
	"os"
	"runtime/debug"
)

// The collector keeps little and makes much garbage: of each request some
// kilobytes. It spends a fifth less of the processor if it lets that grow to
// some times of what it keeps; from the limit on it collects as often as need be.
const (
	garbage     = 400       // percent of what is kept; Go's own is 100
	memoryLimit = 112 << 20 // bytes that Go may take before it collects sooner
)

// TuneMemory is for programs that are a collector and nothing else, and is
// called once at the start. GOGC and GOMEMLIMIT in the environment win.
func TuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
