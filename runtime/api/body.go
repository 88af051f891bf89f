package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	maxBody  = 1 << 20          // bytes; nginx refuses more already
	maxDepth = 8                // of nested values; ours have three
	maxItems = store.MaxNGWords // of a list: an empty object takes three bytes here, and a hundred once it is read
)

// read decodes the request's body into a struct: one JSON object in UTF-8, fields as documented and none twice. No body is the same
// as an empty object.
func (c *call) read(into any) error {
	var data []byte
	err := error(&http.MaxBytesError{Limit: maxBody})
	if c.r.ContentLength <= maxBody { // else nothing of it is read
		data, err = io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return chat.Errorf(chat.CodeTooLarge, "the body has more than %d bytes", maxBody)
	}
	if err != nil {
		return badRequest("cannot read the body to its end")
	}
	return decode(data, into)
}

// bodiless is for a call whose path says it all: a body with anything in it is a mistake.
func bodiless(do func(*call) (answer, error)) func(*call) (answer, error) {
	return func(c *call) (answer, error) {
		if err := c.read(&struct{}{}); err != nil {
			return answer{}, err
		}
		return do(c)
	}
}

func decode(data []byte, into any) error {
	if len(data) == 0 {
		return nil
	}
	if !utf8.Valid(data) {
		return badRequest("the body is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := checkObject(dec); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return badRequest("something follows the JSON object")
	}
	dec = json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return badJSON(err)
	}
	return nil
}

func badJSON(err error) error {
	var typeError *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return badRequest("the body is not JSON: it ends too early")
	case errors.As(err, &typeError):
		return badRequest("bad field %q: it cannot be %s", typeError.Field, clip(typeError.Value))
	}
	return badRequest("the body is not as wanted: %s", clip(strings.TrimPrefix(err.Error(), "json: ")))
}

// checkObject refuses what encoding/json would let pass: a body that is no object, a field twice, one whose letters have another case.
func checkObject(dec *json.Decoder) error {
	token, err := dec.Token()
	if err != nil {
		return badJSON(err)
	}
	if token != json.Delim('{') {
		return badRequest("the body is not a JSON object")
	}
	return checkInside(dec, true, 1)
}

func checkInside(dec *json.Decoder, object bool, depth int) error {
	if depth > maxDepth {
		return badRequest("the body is nested too deep")
	}
	var seen []string
	for n := 0; dec.More(); n++ {
		if n == maxItems {
			return badRequest("a list has more than %d entries", maxItems)
		}
		if object {
			name, err := checkField(dec, seen)
			if err != nil {
				return err
			}
			seen = append(seen, name)
		}
		token, err := dec.Token()
		if err != nil {
			return badJSON(err)
		}
		if token == json.Delim('{') || token == json.Delim('[') {
			if err := checkInside(dec, token == json.Delim('{'), depth+1); err != nil {
				return err
			}
		}
	}
	if _, err := dec.Token(); err != nil { // the end of the object or list
		return badJSON(err)
	}
	return nil
}

// maxFields bounds an object, and so the search for a field that stands there twice.
const maxFields = 32

func checkField(dec *json.Decoder, seen []string) (string, error) {
	token, err := dec.Token()
	if err != nil {
		return "", badJSON(err)
	}
	name, _ := token.(string)
	for _, r := range name {
		if (r < 'a' || r > 'z') && r != '_' { // no field of ours has other letters
			return "", badRequest("unknown field %q", clip(name))
		}
	}
	for _, other := range seen {
		if other == name {
			return "", badRequest("the field %q stands there twice", clip(name))
		}
	}
	if len(seen) == maxFields {
		return "", badRequest("an object has too many fields")
	}
	return name, nil
}
