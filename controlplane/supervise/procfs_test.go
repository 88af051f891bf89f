package supervise

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A record without a pid once picked session 0, that is, half of the machine. No process is touched to test it.
func TestSessionRest_picksOnlyOurs(t *testing.T) {
	all := []stat{
		{pid: 1, session: 1, ticks: 1, state: 'S'},
		{pid: 2, session: 0, ticks: 1, state: 'S'},
		{pid: 3, parent: 1, session: 0, ticks: 50, state: 'S'},
		{pid: 4, parent: 1, session: 1, ticks: 50, state: 'S'},
		{pid: 100, session: 100, ticks: 60, state: 'S'},
		{pid: 101, session: 100, ticks: 61, state: 'S'},
		{pid: 102, session: 100, ticks: 62, state: 'Z'},
		{pid: 201, session: 200, ticks: 71, state: 'S'}, // its leader, 200, is dead
		{pid: os.Getpid(), session: ownSession(), ticks: 80, state: 'R'},
	}
	tests := []struct {
		name string
		rec  Record
		want int
	}{
		{"no record", Record{}, 0},
		{"no pid", Record{StartTicks: 1}, 0},
		{"init", Record{PID: 1, StartTicks: 1}, 0},
		{"a negative pid", Record{PID: -100, StartTicks: 60}, 0},
		{"no start time", Record{PID: 100}, 0},
		{"leader alive", Record{PID: 100, StartTicks: 60}, 1},
		{"leader's number reused", Record{PID: 100, StartTicks: 10}, 0},
		{"leader dead", Record{PID: 200, StartTicks: 70}, 1},
		{"members older than the leader", Record{PID: 200, StartTicks: 90}, 0},
		{"our own session", Record{PID: ownSession(), StartTicks: 1}, 0},
	}
	for _, tt := range tests {
		if got := sessionRest(all, tt.rec); len(got) != tt.want {
			t.Errorf("%s: picked %+v, want %d", tt.name, got, tt.want)
		}
	}
}

func TestOpenRecord_wantsAWholeRecord(t *testing.T) {
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	me, err := readStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range []Record{
		{},
		{PID: 0, StartTicks: me.ticks, BootID: boot},
		{PID: 1, StartTicks: 1, BootID: boot},
		{PID: -1, StartTicks: me.ticks, BootID: boot},
		{PID: me.pid, BootID: boot},
		{PID: me.pid, StartTicks: me.ticks},
	} {
		if fd, err := openRecord(rec); err != ErrGone {
			t.Errorf("%+v: got %d, %v", rec, fd, err)
		}
	}
	fd, err := openRecord(Record{PID: me.pid, StartTicks: me.ticks, BootID: boot})
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if all := Descendants(0); all != nil {
		t.Errorf("0 has %d descendants", len(all))
	}
	if all := Descendants(1); all != nil {
		t.Errorf("1 has %d descendants", len(all))
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 0 0"))
	f.Add([]byte("42 (x"))
	f.Add([]byte(")42 (x S 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseStat(b); err == nil && s.state == 0 {
			t.Errorf("parsed %q without a state", b)
		}
	})
}

func TestParseStat_aNameWithParentheses(t *testing.T) {
	s, err := parseStat([]byte("42 (a) b (c) S 1 43 44 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 0 0\n"))
	if want := (stat{pid: 42, parent: 1, group: 43, session: 44, state: 'S', ticks: 12345}); err != nil || s != want {
		t.Errorf("got %+v %v, want %+v", s, err, want)
	}
}
