package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kmsctl/kms/controlplane"
)

// Client calls the control API. All its errors are *controlplane.Error: those of the server as it sent them, and its own with
// a hint. It is safe for concurrent use and holds no connection open for long.
type Client struct {
	// Message says why, in the audit trail, for every change made through this client.
	Message string

	socket string
	http   *http.Client
}

// host stands in URLs where the socket needs none.
const host = "kms"

// Dial returns a client for a control plane's socket. It connects on the first call.
func Dial(socket string) *Client {
	c := &Client{socket: socket}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		IdleConnTimeout: 5 * time.Second,
	}}
	return c
}

// Close gives back idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err == nil {
		return conn, nil
	}
	return nil, c.unreachable(err)
}

// unreachable explains why nobody answers at the socket, and what to type.
func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrPermission):
		return controlplane.Errorf(controlplane.Denied, "cannot reach the control plane at %q: permission denied", c.socket).
			WithHint("run it as %s, who owns the socket", ownerOf(c.socket))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &controlplane.Error{Kind: controlplane.Failed, Message: fmt.Sprintf("no control plane at %q", c.socket),
			Hint: "start it with `kmsctl up` (or `kmsctl server`), or name its home with --home"}
	}
	return controlplane.Errorf(controlplane.Failed, "cannot reach the control plane at %q: %v", c.socket, err).WithHint("kmsctl doctor")
}

// patience bounds a call without a deadline of its own: a control plane that is stopped or stuck never answers.
const patience = defaultTimeout + 5*time.Second

// call sends one request and decodes its answer into out, unless out is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	return c.patientCall(ctx, method, path, query, in, out)
}

// patientCall is call for what may take as long as it takes.
func (c *Client) patientCall(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return controlplane.Errorf(controlplane.Failed, "internal error: cannot encode request: %v", err)
		}
		body = bytes.NewReader(text)
	}
	return c.send(ctx, method, path, query, body, -1, out)
}

func (c *Client) send(ctx context.Context, method, path string, query url.Values, body io.Reader, size int64, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, c.url("http", method, path, query), body)
	if err != nil {
		return controlplane.Errorf(controlplane.Failed, "internal error: %v", err)
	}
	if size >= 0 {
		r.ContentLength = size
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 400 {
		return readError(answer)
	}
	if out == nil || answer.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		return c.explain(err)
	}
	return nil
}

// url adds the audit message to what changes something; the server refuses it elsewhere.
func (c *Client) url(scheme, method, path string, query url.Values) string {
	if c.Message != "" && audited(method, path) {
		if query == nil {
			query = url.Values{}
		}
		query.Set("message", c.Message)
	}
	u := scheme + "://" + host + "/v1" + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	return u
}

// audited tells by the route table whether a call takes a message.
func audited(method, path string) bool {
	got := strings.Split("/v1"+path, "/")
	for _, rt := range routes {
		if rt.method != method || rt.action == "" {
			continue
		}
		if want := strings.Split(rt.path, "/"); len(want) == len(got) && fits(want, got) {
			return true
		}
	}
	return false
}

func fits(want, got []string) bool {
	for i := range want {
		if want[i] != got[i] && !strings.HasPrefix(want[i], "{") {
			return false
		}
	}
	return true
}

// explain types an error of the transport.
func (c *Client) explain(err error) error {
	var typed *controlplane.Error
	switch {
	case errors.As(err, &typed):
		return typed
	case errors.Is(err, context.DeadlineExceeded):
		return controlplane.Errorf(controlplane.TimedOut, "no answer from the control plane at %q in time", c.socket).WithHint("kmsctl doctor")
	case errors.Is(err, context.Canceled):
		return controlplane.Errorf(controlplane.Failed, "interrupted")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return controlplane.Errorf(controlplane.Failed, "the control plane at %q went away during the call", c.socket).WithHint("kmsctl doctor")
	}
	return controlplane.Errorf(controlplane.Failed, "cannot call the control plane at %q: %v", c.socket, err).WithHint("kmsctl doctor")
}

// readError turns an answer of 400 and above back into the error that the server had.
func readError(answer *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	var e controlplane.Error
	if json.Unmarshal(text, &e) == nil && e.Kind != "" {
		return &e
	}
	return controlplane.Errorf(controlplane.Failed, "the control plane answers %s", answer.Status).WithHint("kmsctl version")
}

// errCutOff ends a stream that just stops, because the control plane went away.
var errCutOff = controlplane.Errorf(controlplane.Failed, "the control plane went away").WithHint("kmsctl doctor")

// stream opens a WebSocket route and calls each with the text of every message until the server ends it.
func (c *Client) stream(ctx context.Context, path string, query url.Values, each func([]byte) error) error {
	d := websocket.Dialer{NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }}
	conn, answer, err := d.DialContext(ctx, c.url("ws", "GET", path, query), nil)
	if err != nil {
		if answer != nil && answer.StatusCode >= 400 {
			return readError(answer)
		}
		return c.explain(err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer conn.Close()
	defer stop()
	for {
		_, text, err := conn.ReadMessage()
		switch {
		case ctx.Err() != nil:
			return c.explain(ctx.Err())
		case websocket.IsCloseError(err, websocket.CloseNormalClosure):
			return nil
		case err != nil:
			return errCutOff
		}
		var last streamError
		if json.Unmarshal(text, &last) == nil && last.Error != nil && last.Error.Kind != "" {
			return last.Error
		}
		if err := each(text); err != nil {
			return err
		}
	}
}

func ownerOf(socket string) string {
	info, err := os.Stat(socket)
	if err != nil {
		return "the user"
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return loginName(st.Uid)
	}
	return "the user"
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	var out T
	err := c.call(ctx, http.MethodGet, path, query, nil, &out)
	return out, err
}

func post[T any](ctx context.Context, c *Client, path string, in any) (T, error) {
	var out T
	err := c.call(ctx, http.MethodPost, path, nil, in, &out)
	return out, err
}

// path joins segments, escaped.
func path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}
