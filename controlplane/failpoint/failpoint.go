// Package failpoint lets a test kill the control plane at a named point: with KMS_FAILPOINT=FILE in its environment it sends itself
// SIGKILL when it reaches the point that FILE names, with NAME:3 in there when it does so for the third time. FILE may come, change
// and go while the control plane runs. KMS_FAILPOINT_TRACE=FILE appends each point that is reached to FILE, one a line. Both are for
// tests only. Without them a point costs one comparison.
package failpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The points of a release beside its steps, and of pins and canaries: each stands directly after what it names, but for those that say "before".
const (
	BeforeLease       = "before the lease"
	LeaseTaken        = "lease taken"
	LedgerBegun       = "ledger begun"
	FlightWritten     = "flight written"
	SetChosen         = "set chosen"
	SetWritten        = "set written"
	SetDirMade        = "set directory made"
	ProcessStarted    = "process started"
	ProcessWritten    = "process written"
	ProcessConfigured = "process configured"
	SwapIntended      = "swap intended"
	RouteWritten      = "route written"
	SlotSwapped       = "slot swapped"
	NginxWritten      = "nginx written"
	NginxReloaded     = "nginx reloaded"
	VersionWritten    = "version written"
	DrainWritten      = "drain written"
	DrainTold         = "drain told"
	DrainCancelled    = "drain cancelled"
	SlotRemoved       = "slot removed"
	SetStopping       = "set stopping"
	ProcessStopped    = "process stopped"
	SetStopped        = "set stopped"
	SetDirsRemoved    = "set directories removed"
	SetForgotten      = "set forgotten"
	ProbeLinked       = "probe linked"
	PinWritten        = "pin written"
	PinForgotten      = "pin forgotten"
	CanaryWritten     = "canary written"
	CanaryForgotten   = "canary forgotten"
	PlacesLinked      = "places linked"
	AuditEntered      = "audit entered"
	EndWritten        = "end written"
	LedgerEnded       = "ledger ended"
	LeaseReleased     = "lease released"
	FlightForgotten   = "flight forgotten"
)

// The points of a restore, which no release passes.
const (
	RestoreWritten = "restore written"
	StoreReplaced  = "store replaced" // before the channels have new epochs, where these come after
)

var restores = []string{RestoreWritten, StoreReplaced}

// steps are the steps of releases; each is a point when its beginning is written down, and one when its end is not yet.
var steps = []string{
	"start", "probe", "bus", "warm up", "check", "swap", "nginx", "probe nginx", "ledger", "drain", "swap back", "undo",
	"answer 410", "tell clients", "stop",
}

// All returns the name of every point of releases, pins and canaries.
func All() []string {
	all := []string{
		BeforeLease, LeaseTaken, LedgerBegun, FlightWritten, SetChosen, SetWritten, SetDirMade, ProcessStarted, ProcessWritten,
		ProcessConfigured, SwapIntended, RouteWritten, SlotSwapped, NginxWritten, NginxReloaded, VersionWritten, DrainWritten,
		DrainTold, DrainCancelled, SlotRemoved, SetStopping, ProcessStopped, SetStopped, SetDirsRemoved, SetForgotten, ProbeLinked, PinWritten, PinForgotten,
		CanaryWritten, CanaryForgotten, PlacesLinked, AuditEntered, EndWritten,
		LedgerEnded, LeaseReleased, FlightForgotten,
	}
	for _, step := range steps {
		all = append(all, step+begun, step+ended)
	}
	return all
}

const begun, ended = ": begun", ": ended"

// Reach is where the control plane may be killed.
func Reach(point string) {
	if on {
		reach(point)
	}
}

// Begun is the point after the intent of a step was written down.
func Begun(step string) {
	if on {
		reach(step + begun)
	}
}

// Ended is the point after a step was done and before that is written down.
func Ended(step string) {
	if on {
		reach(step + ended)
	}
}

var (
	orders = os.Getenv("KMS_FAILPOINT")
	trace  = os.Getenv("KMS_FAILPOINT_TRACE")
	on     = orders != "" || trace != ""

	mu    sync.Mutex
	order string // as last read
	seen  int    // how often its point was reached since
)

// parse reads NAME or NAME:COUNT. A name that is no point is a mistake in a test, which would then prove nothing.
func parse(text string) (point string, count int) {
	if text == "" {
		return "", 0
	}
	point, count = text, 1
	if at := strings.LastIndexByte(text, ':'); at > 0 {
		if n, err := strconv.Atoi(text[at+1:]); err == nil {
			point, count = text[:at], n
		}
	}
	must(point)
	return point, count
}

func must(point string) {
	if !slices.Contains(All(), point) && !slices.Contains(restores, point) {
		panic(fmt.Sprintf("internal error: there is no fail point %q", point))
	}
}

func reach(point string) {
	must(point)
	mu.Lock()
	defer mu.Unlock()
	if trace != "" {
		record(point)
	}
	text, _ := os.ReadFile(orders) // none: nobody is to be killed now
	if string(text) != order {
		order, seen = string(text), 0
	}
	target, count := parse(strings.TrimSpace(order))
	if point != target {
		return
	}
	if seen++; seen == count {
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {} // nothing more happens in here, whenever the signal comes
	}
}

func record(point string) {
	f, err := os.OpenFile(trace, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, point)
		f.Close()
	}
	if err != nil {
		panic(fmt.Sprintf("internal error: cannot trace fail points: %v", err))
	}
}
