package nginx

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/names"
)

// maxLog is how much of the access log's end is read for a report: a quarter of a million lines.
const maxLog = 64 << 20

// Traffic is what the access log tells of a version, by whether a canary's bucket or the stable set answered.
type Traffic struct {
	From           time.Time // the oldest line that was looked at, or since
	Stable, Canary controlplane.Traffic
}

// access is a line of the access log; see log_format in the template.
type access struct {
	At      time.Time `json:"at"`
	Status  int       `json:"status"`
	Tenant  string    `json:"tenant"`
	Role    string    `json:"role"`
	Set     string    `json:"set"`
	Seconds float64   `json:"seconds"`
}

// Traffic reads the end of the access log. canary tells which buckets, 0 to 99, lead to the canary.
func (m *Manager) Traffic(version string, since time.Time, canary func(bucket int) bool) (Traffic, error) {
	file, err := os.Open(m.o.AccessLog)
	if err != nil {
		return Traffic{}, fmt.Errorf("cannot read the access log: %v", err)
	}
	defer file.Close()
	t := Traffic{From: since}
	lines, cut, err := tail(file)
	if err != nil {
		return t, fmt.Errorf("cannot read the access log: %v", err)
	}
	var times [2][]float64 // stable, canary
	wanted := []byte(`"version":"` + version + `"`)
	for lines.Scan() {
		line := lines.Bytes()
		var a access
		if !cut && !bytes.Contains(line, wanted) || json.Unmarshal(line, &a) != nil {
			continue
		}
		if cut { // the first whole line tells how far back the rest goes
			cut, t.From = false, later(since, a.At)
		}
		to, ok := a.side(canary)
		// nginx's clock has seconds: a line of the second in which it began counts.
		if !ok || !bytes.Contains(line, wanted) || a.At.Before(since.Truncate(time.Second)) {
			continue
		}
		count([]*controlplane.Traffic{&t.Stable, &t.Canary}[to], a)
		if a.Role == "api" {
			times[to] = append(times[to], a.Seconds)
		}
	}
	if err := lines.Err(); err != nil {
		return t, fmt.Errorf("cannot read the access log: %v", err)
	}
	t.Stable.P50, t.Stable.P99 = percentiles(times[0])
	t.Canary.P50, t.Canary.P99 = percentiles(times[1])
	return t, nil
}

// tail returns the lines of the file's end; cut says that there are more before.
func tail(file *os.File) (lines *bufio.Scanner, cut bool, err error) {
	info, err := file.Stat()
	if err != nil {
		return nil, false, err
	}
	start := max(0, info.Size()-maxLog)
	if _, err := file.Seek(start, io.SeekStart); err != nil {
		return nil, false, err
	}
	lines = bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	if start > 0 {
		lines.Scan() // half a line
	}
	return lines, start > 0, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// side tells by the link that nginx chose whether it was the canary's (1) or the stable set's (0).
func (a access) side(canary func(int) bool) (side int, ok bool) {
	parts := strings.Split(a.Set, "/")
	if len(parts) < 2 || a.Tenant == names.ProbeTenant {
		return 0, false
	}
	last, kind := parts[len(parts)-1], parts[len(parts)-2]
	switch {
	case kind == "b":
		if n, err := strconv.Atoi(last); err == nil && canary(n) {
			return 1, true
		}
		return 0, true
	case last == "s":
		return 0, true
	}
	return 0, false
}

func count(t *controlplane.Traffic, a access) {
	switch {
	case a.Role == "api":
		t.Requests++
		if a.Status >= 500 {
			t.Errors++
		}
	case a.Status == 101:
		t.WebSockets++
	default:
		t.Refused++
	}
}

func percentiles(times []float64) (p50, p99 float64) {
	if len(times) == 0 {
		return 0, 0
	}
	slices.Sort(times)
	at := func(percent int) float64 { return times[(len(times)*percent+99)/100-1] }
	return at(50), at(99)
}
