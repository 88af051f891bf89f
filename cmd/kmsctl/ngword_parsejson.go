package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
)

// readJSON reads an array of words or of objects, or an object that has it as `words`, as an export does.
func (f *ngFile) readJSON(text []byte) error {
	j := &jsonWords{file: f, text: text, dec: json.NewDecoder(bytes.NewReader(text))}
	err := j.read()
	if err == nil {
		if _, more := j.dec.Token(); !errors.Is(more, io.EOF) {
			f.complain(j.line(), "something follows the JSON value")
		}
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the file ends in the middle of it")
	}
	// Behind this nothing can be read, so that skipping bad lines would skip good ones unseen.
	return controlplane.Errorf(controlplane.Usage, "line %d: %v", j.line(), err)
}

// jsonWords reads word by word, so as to know the line of each.
type jsonWords struct {
	file *ngFile
	text []byte
	dec  *json.Decoder

	counted, lines int // newlines in the first bytes of text
}

// line is where the next value begins.
func (j *jsonWords) line() int {
	at := int(j.dec.InputOffset())
	for at < len(j.text) && bytes.IndexByte([]byte(" \t\r\n,:"), j.text[at]) >= 0 {
		at++
	}
	j.lines += bytes.Count(j.text[j.counted:max(at, j.counted)], []byte("\n"))
	j.counted = max(at, j.counted)
	return j.lines + 1
}

var errNoWords = errors.New("want an array of words or of objects, or an object with such an array as `words`")

func (j *jsonWords) read() error {
	begin, err := j.dec.Token()
	if err != nil {
		return err
	}
	switch begin {
	case json.Delim('['):
		return j.readWords()
	case json.Delim('{'):
		return j.readExport()
	}
	return errNoWords
}

func (j *jsonWords) readExport() error {
	found := false
	for j.dec.More() {
		name, err := j.dec.Token()
		if err != nil {
			return err
		}
		switch name {
		case "words":
			begin, err := j.dec.Token()
			if err != nil {
				return err
			}
			if begin != json.Delim('[') || found {
				return errNoWords
			}
			found = true
			err = j.readWords()
			if err != nil {
				return err
			}
		case "settings":
			j.file.settings = &api.NGSettings{}
			if err := j.dec.Decode(j.file.settings); err != nil {
				return err
			}
		default:
			var other json.RawMessage
			if err := j.dec.Decode(&other); err != nil {
				return err
			}
		}
	}
	if _, err := j.dec.Token(); err != nil {
		return err
	}
	if !found {
		return errNoWords
	}
	return nil
}

// readWords reads to the end of the array.
func (j *jsonWords) readWords() error {
	for j.dec.More() {
		line := j.line()
		var raw json.RawMessage
		if err := j.dec.Decode(&raw); err != nil {
			return err
		}
		w, err := jsonWord(raw)
		if err != nil {
			j.file.complain(line, "%v", err)
			continue
		}
		j.file.add(line, w)
	}
	_, err := j.dec.Token()
	return err
}

func jsonWord(raw []byte) (w api.NGWord, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	switch raw[0] {
	case '"':
		err = dec.Decode(&w.Word)
	case '{':
		err = dec.Decode(&w)
	default:
		err = errors.New("want a word, or an object with `word`")
	}
	return w, err
}
