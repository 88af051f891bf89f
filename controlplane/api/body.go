package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kmsctl/kms/controlplane"
)

const (
	maxBody     = 1 << 20
	maxNGBody   = 64 << 20  // 100,000 of the longest words; whoever has more sends them in parts
	maxArtifact = 512 << 20 // a server binary
	bodyTimeout = 30 * time.Second
)

// decode reads a JSON body strictly: bounded in size and time, no unknown fields, nothing behind it. A body that says that it is too large
// is not read at all.
func (c *call) decode(into any, limit int64) error {
	if c.r.ContentLength > limit {
		return &http.MaxBytesError{Limit: limit}
	}
	http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(bodyTimeout))
	dec := json.NewDecoder(http.MaxBytesReader(c.w, c.r.Body, limit))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return badJSON(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return badRequest("cannot read body: something follows the JSON value")
	}
	return nil
}

func badJSON(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	if errors.Is(err, io.EOF) {
		return badRequest("cannot read body: it is empty, want a JSON object")
	}
	return badRequest("cannot read body: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// artifactBody streams an upload. The sender may be slow, but has to send something every bodyTimeout.
type artifactBody struct {
	body    io.Reader
	control *http.ResponseController
}

func (c *call) artifact() io.Reader {
	return &artifactBody{http.MaxBytesReader(c.w, c.r.Body, maxArtifact), http.NewResponseController(c.w)}
}

func (b *artifactBody) Read(p []byte) (int, error) {
	b.control.SetReadDeadline(time.Now().Add(bodyTimeout))
	return b.body.Read(p)
}

// query returns a query parameter. The route has refused parameters that it does not know.
func (c *call) query(name string) string { return c.r.URL.Query().Get(name) }

func (c *call) queryInt(name string, def int64) (int64, error) {
	text := c.query(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, badRequest("bad %s %q: want a whole number of 0 or more", name, text)
	}
	return n, nil
}

func (c *call) queryBool(name string) (bool, error) {
	text := c.query(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, badRequest("bad %s %q: want true or false", name, text)
	}
	return b, nil
}

func (c *call) checkQuery(allowed []string) error {
	for name, values := range c.r.URL.Query() {
		if !slices.Contains(allowed, name) {
			return badRequest("unknown query parameter %q", name)
		}
		if len(values) > 1 {
			return badRequest("query parameter %q is given %d times", name, len(values))
		}
	}
	return nil
}

func methodNotAllowed(method, path string) error {
	return &statusError{http.StatusMethodNotAllowed, controlplane.Errorf(controlplane.Usage, "cannot %s %q: not a method of this route", method, path)}
}
