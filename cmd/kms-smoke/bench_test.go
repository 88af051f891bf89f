package main

import (
	"strings"
	"testing"
	"time"
)

// TestSwaps_underManySockets holds what does not depend on the machine's speed: 20 swaps under 500 WebSockets, with pins and canaries
// that come and go, close none unasked, fail no API call, lose no message and reload nginx never; then a drain keeps its pace.
func TestSwaps_underManySockets(t *testing.T) {
	ctx := testContext(t, 2*time.Minute)
	b := &deploys{story: &story{rig: testRig(t, options{}), out: &report{}, progress: testLog{t}}, swaps: 20, clients: 500}
	figures, err := b.bench(ctx)
	must(t, err)
	for _, f := range figures {
		t.Logf("%s: %v %s", f.Name, f.Value, f.Unit)
		if (f.Goal == "<= 0" || strings.HasPrefix(f.Name, "drain")) && !f.OK {
			t.Errorf("%v %s", f.Value, f.Name)
		}
		if f.Unit == "ms" && f.Value > 60_000 {
			t.Errorf("nothing was measured of %q", f.Name)
		}
	}
}
