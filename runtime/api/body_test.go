package api_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/api"
)

// FuzzDecode holds that whatever is taken is one JSON object in UTF-8, and that nothing of it got lost: what was understood, written
// down again, is understood as the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"text":"x","id":"01JD3V4N8ZQ0X5T6Y7W8R9S0AB"}`, `{"words":[{"word":"a","kind":"allow"}],"revision":3,"message":"m"}`,
		`{"add":[],"remove":["x"]}`, `{"name":"a","name":"b"}`, `{"NAME":"a"}`, `{"expires_in":1e3}`, `{"text":"\ud800"}`, `{"text":null}`,
		`{} {}`, `[]`, `{"a":[[[[[[[[[[`, `{"kind":"wor`, "{\"text\":\"\xff\"}", `{"ſ":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, into := range api.Bodies() {
			if api.Decode(data, into) != nil || len(data) == 0 {
				continue
			}
			var object map[string]json.RawMessage
			if err := json.Unmarshal(data, &object); err != nil || object == nil || !utf8.Valid(data) {
				t.Fatalf("taken: %q", data)
			}
			again, err := json.Marshal(into)
			check(t, err)
			other := reflect.New(reflect.TypeOf(into).Elem()).Interface()
			check(t, api.Decode(again, other))
			if !reflect.DeepEqual(into, other) {
				t.Fatalf("%q is %+v, then %+v", data, into, other)
			}
		}
	})
}
