//go:build !ledgerfaults

package ledgerfault

// Is reports whether this program has the fault.
func Is(Fault) bool { return false }
