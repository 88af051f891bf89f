package chat

import (
	"testing"
	"time"
)

func TestLook_asksForAllHeadsOnceAMinute(t *testing.T) {
	t.Parallel()
	now := time.Now()
	answered := now.Add(-time.Hour) // the database's clock is another
	var l look
	asked := 0
	for second := range 180 {
		since := l.next(now.Add(time.Duration(second) * time.Second))
		if since.IsZero() {
			asked++
			if second%60 != 0 {
				t.Errorf("all heads in second %d", second)
			}
		} else if !since.Equal(answered) {
			t.Errorf("since %v, want what the log answered", since)
		}
		l.since = answered
	}
	if asked != 3 {
		t.Errorf("all heads %d times in three minutes", asked)
	}
	l.next(now.Add(time.Hour)) // it could not be read: zero stays
	if since := l.next(now.Add(time.Hour + time.Second)); !since.IsZero() {
		t.Errorf("after a failed look at all, since %v", since)
	}
}
