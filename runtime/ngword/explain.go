package ngword

// Explanation is a verdict with its reasons.
type Explanation struct {
	Action  string  // as Check returns it
	Text    string  // as Check returns it
	Hits    []Found // in order of Start
	Allowed []Found // words that are there, but within an allow entry, and therefore do not count
}

// Found is a hit and why it is one.
type Found struct {
	Hit
	Found    string   // the line from Start to End
	Foldings []string // what made the word of it, such as "kana" or "separators"; none when it stands there letter by letter
	By       Allow    // the allow entry that took the hit away; empty in Hits
}

// Allow names an allow entry.
type Allow struct{ List, Word string }

// Explain judges a line as Check does and says why. It is for people, and slower.
func (f *Filter) Explain(text string) Explanation {
	r := f.Check(text)
	e := Explanation{Action: r.Action, Text: r.Text}
	for _, h := range r.Hits {
		e.Hits = append(e.Hits, Found{Hit: h, Found: text[h.Start:h.End]})
	}
	return e
}
