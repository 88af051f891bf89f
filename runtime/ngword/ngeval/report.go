package ngeval

import (
	"fmt"
	"io"
	"slices"

	"github.com/kmsctl/kms/runtime/ngword"
)

// Rate is how well some of the cases went. What has no cases has the rate 1.
type Rate struct {
	Recall    float64 `json:"recall"` // share of the offending lines that were found
	Clean     float64 `json:"clean"`  // share of the other lines that were let through
	Spans     float64 `json:"spans"`  // share of the found places that are exactly the offending text
	Offending int     `json:"offending"`
	Found     int     `json:"found"`
	Innocent  int     `json:"innocent"`
	Passed    int     `json:"passed"`
	Placed    int     `json:"placed"` // found lines whose case tells the place
	Exact     int     `json:"exact"`
}

// Report is what Eval measured.
type Report struct {
	Core    Rate            `json:"core"`
	CoreJA  Rate            `json:"core_ja"`
	All     Rate            `json:"all"`
	Classes map[string]Rate `json:"classes"`
	Langs   map[string]Rate `json:"languages"`
	Kinds   map[string]Rate `json:"kinds"`
	Wrong   []string        `json:"wrong"`       // ids of lines not found, or found without reason
	Spans   []string        `json:"wrong_spans"` // ids of lines where another place was found than the offending one
}

// Place is where a filter found something, in bytes.
type Place struct{ Start, End int }

// Judge returns what a filter finds in the text of a case.
type Judge func(c *Case) ([]Place, error)

// Eval reads cases and judges each by its own list, which has the settings of a new one: the shipped lists judge along.
func Eval(cases io.Reader) (Report, error) {
	all, err := Read(cases)
	if err != nil {
		return Report{}, err
	}
	judge, err := Ours()
	if err != nil {
		return Report{}, err
	}
	return Run(all, judge)
}

// Ours judges with package ngword.
func Ours() (Judge, error) {
	var shipped []*ngword.Matcher
	for _, list := range ngword.Shipped() {
		m, err := ngword.Compile(list)
		if err != nil {
			return nil, err
		}
		shipped = append(shipped, m)
	}
	return func(c *Case) ([]Place, error) {
		m, err := ngword.Compile(c.List())
		if err != nil {
			return nil, err
		}
		r := ngword.NewFilter(append([]*ngword.Matcher{m}, shipped...)...).Check(c.Text)
		var places []Place
		for _, h := range r.Hits {
			places = append(places, Place{h.Start, h.End})
		}
		return places, nil
	}, nil
}

// Run judges cases by any filter.
func Run(cases []Case, judge Judge) (Report, error) {
	r := Report{Classes: map[string]Rate{}, Langs: map[string]Rate{}, Kinds: map[string]Rate{}, Wrong: []string{}, Spans: []string{}}
	for i := range cases {
		c := &cases[i]
		places, err := judge(c)
		if err != nil {
			return Report{}, fmt.Errorf("cannot judge case %q: %w", c.ID, err)
		}
		r.add(c, places)
	}
	r.finish()
	return r, nil
}

func (r *Report) add(c *Case, places []Place) {
	one := outcome(c, places)
	if one.Found < one.Offending || one.Passed < one.Innocent {
		r.Wrong = append(r.Wrong, c.ID)
	}
	if one.Exact < one.Placed {
		r.Spans = append(r.Spans, c.ID)
	}
	r.All.add(one)
	if c.Class == "core" {
		r.Core.add(one)
		if c.Lang == "ja" {
			r.CoreJA.add(one)
		}
	}
	addTo(r.Classes, c.Class, one)
	addTo(r.Langs, c.Lang, one)
	for _, kind := range c.Kinds {
		addTo(r.Kinds, kind, one)
	}
}

// outcome counts a single case.
func outcome(c *Case, places []Place) (one Rate) {
	if !*c.Match {
		one.Innocent = 1
		if len(places) == 0 {
			one.Passed = 1
		}
		return one
	}
	one.Offending = 1
	if len(places) == 0 {
		return one
	}
	one.Found = 1
	if span, err := c.byteSpan(); err == nil && span != nil {
		one.Placed = 1
		if slices.Contains(places, Place{span[0], span[1]}) {
			one.Exact = 1
		}
	}
	return one
}

func addTo(rates map[string]Rate, name string, one Rate) {
	rate := rates[name]
	rate.add(one)
	rates[name] = rate
}

func (r *Rate) add(one Rate) {
	r.Offending += one.Offending
	r.Found += one.Found
	r.Innocent += one.Innocent
	r.Passed += one.Passed
	r.Placed += one.Placed
	r.Exact += one.Exact
}

func (r *Report) finish() {
	for _, rate := range []*Rate{&r.Core, &r.CoreJA, &r.All} {
		rate.finish()
	}
	for _, rates := range []map[string]Rate{r.Classes, r.Langs, r.Kinds} {
		for name, rate := range rates {
			rate.finish()
			rates[name] = rate
		}
	}
}

func (r *Rate) finish() {
	r.Recall, r.Clean, r.Spans = share(r.Found, r.Offending), share(r.Passed, r.Innocent), share(r.Exact, r.Placed)
}

func share(part, whole int) float64 {
	if whole == 0 {
		return 1
	}
	return float64(part) / float64(whole)
}
