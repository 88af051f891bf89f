//go:build ledgerfaults

package ledgerfault

import (
	"bytes"
	"io"
	"os"
)

// chosen is read from the program's own file: one build serves for every fault, and no setting leads to any.
var chosen = read()

// Is reports whether this program has the fault.
func Is(f Fault) bool { return f == chosen }

func read() Fault {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return ""
	}
	defer self.Close()
	if _, err := self.Seek(-1024, io.SeekEnd); err != nil {
		return ""
	}
	end, err := io.ReadAll(self)
	if err != nil {
		return ""
	}
	for _, f := range All() {
		if bytes.Contains(end, Mark(f)) {
			return f
		}
	}
	return ""
}
