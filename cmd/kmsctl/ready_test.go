package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

// TestReady_saysWhatToDoNext reads what `up` prints once all runs.
func TestReady_saysWhatToDoNext(t *testing.T) {
	st, err := (&fake{builds: fakeBuilds()}).status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := newCLI(nil, &out, io.Discard)
	c.output, c.home = "table", "/srv/kms"
	if err := c.printReady(&out, st); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"nginx", "2.0 ua", "4711", "/run/kms/i/s1a2b3c4d/ua.sock", "chat page: http://127.0.0.1:8080/", "KMS_RUN=/run/kms kmsctl --home /srv/kms list", "Ctrl-C"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "kmsctl --home"); n != 5 {
		t.Errorf("%d commands, want 5", n)
	}
	for line := range strings.Lines(out.String()) {
		if cells.StringWidth(strings.TrimRight(line, "\n")) > tableWidth {
			t.Errorf("too wide: %s", line)
		}
	}
}
