package ngeval

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestEval_countsByClassLanguageAndKind(t *testing.T) {
	r, err := Eval(strings.NewReader(`{"format": 1, "cases": [
		{"id": "a", "list": ["damn"], "text": "oh damn", "should_match": true, "kinds": ["plain"], "cls": "core", "lang": "en", "span": [3, 7]},
		{"id": "b", "list": ["バカ"], "text": "ばか", "should_match": true, "kinds": ["kana", "plain"], "cls": "core", "lang": "ja", "span": [0, 1]},
		{"id": "c", "list": ["バカ"], "allow": ["バカ貝"], "text": "ばか貝", "should_match": false, "kinds": ["fp"], "cls": "core", "lang": "ja"},
		{"id": "d", "list": ["damn"], "text": "fine", "should_match": true, "kinds": ["plain"], "cls": "extra", "lang": "en"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Rate{Recall: 1, Clean: 1, Spans: 0.5, Offending: 2, Found: 2, Innocent: 1, Passed: 1, Placed: 2, Exact: 1}
	if r.Core != want {
		t.Errorf("core is %+v", r.Core)
	}
	if k := r.Kinds["plain"]; k.Recall != 2.0/3 || k.Clean != 1 || k.Offending != 3 {
		t.Errorf("plain is %+v", k)
	}
	if r.CoreJA.Offending != 1 || r.Langs["en"].Found != 1 || r.Classes["extra"].Recall != 0 || r.All.Offending != 3 {
		t.Errorf("got %+v", r)
	}
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"core":{"recall":1,"clean":1,`, `"core_ja":{`, `"all":{`, `"kinds":{"fp":`, `"wrong":["d"]`, `"wrong_spans":["b"]`} {
		if !strings.Contains(string(out), part) {
			t.Errorf("%s is not in %s", part, out)
		}
	}
}

func TestRead_namesTheCaseThatIsWrong(t *testing.T) {
	const good = `{"id": "x", "list": ["a"], "text": "a", "should_match": true, "kinds": ["k"], "cls": "core"}`
	for cases, want := range map[string]string{
		`{"format": 1, "cases": [` + good + `,` + good + `]}`:                                                                             `case "x": there is another`,
		`{"format": 1, "cases": [{"list": ["a"]}]}`:                                                                                       `case number 1: it has no id`,
		`{"format": 1, "cases": [{"id": "y", "text": "a"}]}`:                                                                              `case "y": its list has no words`,
		`{"format": 1, "cases": [{"id": "y", "list": ["a"], "text": "a"}]}`:                                                               `case "y": should_match is missing`,
		`{"format": 1, "cases": [` + strings.Replace(good, `"k"]`, `"k"], "span": [0, 2]`, 1) + `]}`:                                      `case "x": bad span [0 2] in a text of 1 code points`,
		`{"format": 1, "cases": [` + strings.Replace(good, `"k"]`, `"k"], "span": [0, 1], "span_bytes": [1, 2]`, 1) + `]}`:                `not the same place`,
		`{"format": 1, "cases": [` + strings.Replace(strings.Replace(good, `true`, `false`, 1), `"k"]`, `"k"], "span": [0, 1]`, 1) + `]}`: `nothing is to be found`,
		`{"format": 2, "cases": [` + good + `]}`:                                                                                          `format 2, known is 1`,
		`{"format": 1, "cases": []}`:                                                                                                      `there are none`,
		`{"format": 1, "cases": [`:                                                                                                        `unexpected EOF`,
		`[]`:                                                                                                                              `cannot read the cases`,
	} {
		if _, err := Read(strings.NewReader(cases)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", cases, err, want)
		}
	}
}
