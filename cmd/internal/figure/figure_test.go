package figure

import (
	"bytes"
	"math"
	"testing"
	"time"
)

func TestTell(t *testing.T) {
	var out bytes.Buffer
	s := NewSheet(&out)
	for _, f := range []Figure{
		Figure{Name: "fast", Value: 1.23456, Unit: "ms", Peers: map[string]float64{"other": 2.00049}}.AtMost(2),
		Figure{Name: "slow", Value: 3, Unit: "ms"}.AtMost(2),
		Figure{Name: "much", Value: 3, Unit: "/s"}.AtLeast(2),
		Figure{Name: "nothing", Value: math.Inf(1), Unit: "/s"}.AtLeast(2),
	} {
		if err := s.Tell(f); err != nil {
			t.Fatal(err)
		}
	}
	want := `{"name":"fast","value":1.235,"unit":"ms","goal":"<= 2","ok":true,"peers":{"other":2}}
{"name":"slow","value":3,"unit":"ms","goal":"<= 2","ok":false,"problem":"the goal is missed"}
{"name":"much","value":3,"unit":"/s","goal":">= 2","ok":true}
{"name":"nothing","value":0,"unit":"/s","goal":">= 2","ok":false,"problem":"nothing was measured"}
`
	if out.String() != want || s.Missed() != 2 {
		t.Errorf("%d missed of\n%swant 2 of\n%s", s.Missed(), out.String(), want)
	}
}

func TestQuantile(t *testing.T) {
	times := []time.Duration{5, 1, 4, 2, 3}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := Quantile(q, times); got != want {
			t.Errorf("the %v quantile is %d, want %d", q, got, want)
		}
	}
	if f := (Figure{Value: Millis(Quantile(0.5, nil))}).AtMost(1e9); f.OK {
		t.Errorf("the median of nothing meets a goal: %+v", f)
	}
}
