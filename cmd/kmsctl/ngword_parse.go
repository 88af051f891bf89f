package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/japanese"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/runtime/store"
)

// The formats of a file of NG words.
const (
	ngTXT  = "txt"
	ngCSV  = "csv"
	ngJSON = "json"
)

var ngFormats = []string{ngTXT, ngCSV, ngJSON}

// ngEncodings are what a file may be written in; nil is UTF-8.
var ngEncodings = map[string]encoding.Encoding{"utf-8": nil, "sjis": japanese.ShiftJIS, "euc-jp": japanese.EUCJP}

// ngFile is a file of NG words, read.
type ngFile struct {
	words    []api.NGWord    // each once, in the file's order
	settings *api.NGSettings // of an export
	repeated int             // lines that say again what another said
	bad      []badLine

	defaults api.NGWord
	seen     map[string]seenWord
}

type badLine struct {
	line int
	what string
}

type seenWord struct {
	word api.NGWord
	line int
}

// parseNG reads a file of NG words in one of the formats. What is wrong with single lines is left to the caller; an error means
// that the file as a whole is of no use.
func parseNG(raw []byte, format, encodingName string, defaults api.NGWord) (*ngFile, error) {
	f := &ngFile{defaults: defaults, seen: map[string]seenWord{}}
	text, err := f.decode(raw, encodingName)
	if err != nil {
		return nil, err
	}
	switch format {
	case ngTXT:
		f.readTXT(text)
	case ngCSV:
		err = f.readCSV(text)
	case ngJSON:
		err = f.readJSON(text)
	}
	slices.SortStableFunc(f.bad, func(a, b badLine) int { return cmp.Compare(a.line, b.line) })
	return f, err
}

func (f *ngFile) complain(line int, format string, args ...any) {
	f.bad = append(f.bad, badLine{line, fmt.Sprintf(format, args...)})
}

// decode makes UTF-8 of a file. Lines that are none are complained of, and emptied.
func (f *ngFile) decode(raw []byte, name string) ([]byte, error) {
	if bytes.HasPrefix(raw, []byte("\xff\xfe")) || bytes.HasPrefix(raw, []byte("\xfe\xff")) {
		return nil, controlplane.Errorf(controlplane.Usage, "it is UTF-16").WithHint("save it as UTF-8; spreadsheets call that `CSV UTF-8`")
	}
	valid := utf8.Valid
	if enc := ngEncodings[name]; enc != nil {
		decoded, err := enc.NewDecoder().Bytes(raw)
		if err != nil {
			return nil, controlplane.Errorf(controlplane.Usage, "it is not %s: %v", name, err)
		}
		raw = decoded
		valid = func(line []byte) bool { return !bytes.ContainsRune(line, utf8.RuneError) } // what the decoder did not know
	}
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	if valid(raw) {
		return raw, nil
	}
	var out []byte
	n := 0
	for line := range bytes.Lines(raw) {
		n++
		if !valid(line) {
			f.complain(n, "not %s", strings.ToUpper(name))
			line = []byte("\n")
		}
		out = append(out, line...)
	}
	return out, nil
}

// add takes an entry that stands in a line, with the defaults for what it leaves out.
func (f *ngFile) add(line int, w api.NGWord) {
	w.Kind, w.Action, w.Mode = cmp.Or(w.Kind, f.defaults.Kind), cmp.Or(w.Action, f.defaults.Action), cmp.Or(w.Mode, f.defaults.Mode)
	e := store.NGEntry{Word: w.Word, Kind: w.Kind, Action: w.Action, Mode: w.Mode}.WithDefaults()
	if err := e.Check(); err != nil {
		f.complain(line, "%v", err)
		return
	}
	w = api.NGWord{Word: e.Word, Kind: e.Kind, Action: e.Action, Mode: e.Mode}
	before, again := f.seen[w.Word]
	switch {
	case again && before.word == w:
		f.repeated++
	case again:
		f.complain(line, "word %q again: line %d says %s", w.Word, before.line, entryText(before.word))
	default:
		f.seen[w.Word] = seenWord{w, line}
		f.words = append(f.words, w)
	}
}

// readTXT reads one word a line. A line that begins with # is a comment; \# and \\ begin a word with # or \.
func (f *ngFile) readTXT(text []byte) {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		word := strings.TrimSpace(string(line))
		if word == "" || word[0] == '#' {
			continue
		}
		if strings.HasPrefix(word, `\#`) || strings.HasPrefix(word, `\\`) {
			word = word[1:]
		}
		f.add(n, api.NGWord{Word: word})
	}
}

// writeTXT is the reverse of readTXT, for words only.
func writeTXT(out io.Writer, words []api.NGWord) error {
	for _, w := range words {
		escape := ""
		if w.Word[0] == '#' || strings.HasPrefix(w.Word, `\#`) || strings.HasPrefix(w.Word, `\\`) {
			escape = `\`
		}
		if _, err := fmt.Fprintln(out, escape+w.Word); err != nil {
			return err
		}
	}
	return nil
}

var csvColumns = []string{"word", "kind", "action", "mode"}

// readCSV reads a table whose header names its columns, in any order.
func (f *ngFile) readCSV(text []byte) error {
	r := csv.NewReader(bytes.NewReader(text))
	r.FieldsPerRecord = -1
	header, err := r.Read()
	if err != nil && !errors.Is(err, io.EOF) {
		return controlplane.Errorf(controlplane.Usage, "line 1: %v", errors.Unwrap(err))
	}
	columns := map[string]int{}
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := columns[name]; twice || !slices.Contains(csvColumns, name) {
			return controlplane.Errorf(controlplane.Usage, "line 1: column %q is unknown or there twice", name).
				WithHint("the first line names the columns: %s; all but word may be left out", strings.Join(csvColumns, ","))
		}
		columns[name] = i
	}
	if _, ok := columns["word"]; !ok {
		return controlplane.Errorf(controlplane.Usage, "line 1: there is no column `word`").
			WithHint("the first line names the columns: %s; all but word may be left out", strings.Join(csvColumns, ","))
	}
	for {
		record, err := r.Read()
		var wrong *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &wrong):
			f.complain(wrong.StartLine, "%v", wrong.Err)
			continue
		case err != nil:
			return controlplane.Errorf(controlplane.Usage, "%v", err)
		}
		f.addRecord(r, record, columns)
	}
}

func (f *ngFile) addRecord(r *csv.Reader, record []string, columns map[string]int) {
	line, _ := r.FieldPos(0)
	switch {
	case strings.Join(record, "") == "":
		return // spreadsheets leave lines of commas
	case len(record) > len(columns):
		f.complain(line, "%d fields where the header has %d; a word with a comma wants quotes", len(record), len(columns))
		return
	}
	field := func(name string) string {
		if i, ok := columns[name]; ok && i < len(record) {
			return strings.TrimSpace(record[i])
		}
		return ""
	}
	f.add(line, api.NGWord{Word: uncellText(field("word")), Kind: strings.ToLower(field("kind")), Action: strings.ToLower(field("action")), Mode: strings.ToLower(field("mode"))})
}

// writeCSV is the reverse of readCSV. It begins with a byte order mark, without which spreadsheets in Japan take the file for
// Shift_JIS, and quotes every word, so that a spreadsheet with another separator does not split it.
func writeCSV(out io.Writer, words []api.NGWord) error {
	if _, err := fmt.Fprintf(out, "\ufeff%s\n", strings.Join(csvColumns, ",")); err != nil {
		return err
	}
	for _, w := range words {
		word := strings.ReplaceAll(cellText(w.Word), `"`, `""`)
		if _, err := fmt.Fprintf(out, "\"%s\",%s,%s,%s\n", word, w.Kind, w.Action, w.Mode); err != nil {
			return err
		}
	}
	return nil
}

// isFormula reports whether a spreadsheet may take a cell for a formula; in Japanese ones full-width signs begin one too.
func isFormula(cell string) bool {
	r, _ := utf8.DecodeRuneInString(cell)
	return strings.ContainsRune("=+-@＝＋－＠", r) && cell != ""
}

// cellText puts an apostrophe before what would be a formula, and before such apostrophes; uncellText takes it away.
func cellText(word string) string {
	if isFormula(strings.TrimLeft(word, "'")) {
		return "'" + word
	}
	return word
}

func uncellText(cell string) string {
	if strings.HasPrefix(cell, "'") && isFormula(strings.TrimLeft(cell, "'")) {
		return cell[1:]
	}
	return cell
}
