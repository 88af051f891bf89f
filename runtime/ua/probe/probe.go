// Package probe is the client side of a build's own check of itself: it reaches a set by its unix sockets or through nginx,
// carries the frames that the version's probe makes, and does the one API call that is the same in every version.
package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kmsctl/kms/runtime/plugin"
)

// Timeout is how long a whole probe takes at most when its context has no earlier end.
const Timeout = 15 * time.Second

const maxAnswer = 64 << 10

// Probe is a target with one open WebSocket.
type Probe struct {
	Target plugin.ProbeTarget // with its defaults filled in
	Nonce  string             // random, to know our own messages by

	ctx context.Context
	ws  *websocket.Conn
}

// Run opens a WebSocket to t and calls talk, which speaks the version's protocol; then it calls the API. version is the build's
// own, used when the target names none.
func Run(ctx context.Context, t plugin.ProbeTarget, version string, talk func(*Probe) error) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if t.Version == "" {
		t.Version = version
	}
	if t.Channel == "" {
		t.Channel = "probe"
	}
	p := &Probe{Target: t, Nonce: rand.Text(), ctx: ctx}
	if err := p.dial(); err != nil {
		return fmt.Errorf("cannot connect to %s: %v", t.UA, err)
	}
	defer p.ws.Close()
	if err := talk(p); err != nil {
		return fmt.Errorf("cannot talk to %s: %v", t.UA, err)
	}
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = p.ws.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(time.Second)) // what counts has been seen
	if err := p.post(); err != nil {
		return fmt.Errorf("cannot call the API at %s: %v", t.API, err)
	}
	return nil
}

// Send sends one frame.
func (p *Probe) Send(frame []byte) error {
	return p.ws.WriteMessage(websocket.TextMessage, frame)
}

// Receive reads frames and gives them to frame until it says that it has seen what it waits for.
func (p *Probe) Receive(what string, frame func([]byte) (seen bool, err error)) error {
	for {
		_, data, err := p.ws.ReadMessage()
		if err != nil {
			return fmt.Errorf("no %s: %v", what, err)
		}
		seen, err := frame(data)
		if err != nil {
			return fmt.Errorf("no %s: %v", what, err)
		}
		if seen {
			return nil
		}
	}
}

func (p *Probe) dial() error {
	base, dial, err := address(p.Target.UA)
	if err != nil {
		return err
	}
	config, err := p.tls()
	if err != nil {
		return err
	}
	d := websocket.Dialer{NetDialContext: dial, TLSClientConfig: config}
	u := strings.Replace(base, "http", "ws", 1) + "/ua/" + p.Target.Version + "/" + p.Target.Tenant
	if p.Target.User != "" {
		u += "?u=" + url.QueryEscape(p.Target.User)
	}
	ws, answer, err := d.DialContext(p.ctx, u, nil)
	if err != nil && answer != nil {
		return fmt.Errorf("%v: %s", err, answer.Status)
	}
	if err != nil {
		return err
	}
	p.ws = ws
	end, _ := p.ctx.Deadline() // Run has set one
	return errors.Join(ws.SetReadDeadline(end), ws.SetWriteDeadline(end))
}

// post posts a message through the API, which must answer 201 with its id.
func (p *Probe) post() error {
	base, dial, err := address(p.Target.API)
	if err != nil {
		return err
	}
	config, err := p.tls()
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"text": "probe " + p.Nonce})
	if err != nil {
		return err
	}
	u := base + "/api/" + p.Target.Version + "/" + p.Target.Tenant + "/channels/" + p.Target.Channel + "/messages"
	r, err := http.NewRequestWithContext(p.ctx, http.MethodPost, u, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+p.Target.Key)
	r.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{DialContext: dial, TLSClientConfig: config, DisableKeepAlives: true}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return checkPosted(answer)
}

func checkPosted(answer *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusCreated {
		return fmt.Errorf("posting a message answers %s: %.200s", answer.Status, bytes.TrimSpace(data))
	}
	var posted struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(data, &posted); err != nil || posted.ID == "" {
		return fmt.Errorf("posting a message answers 201 without an id: %.200q", data)
	}
	return nil
}

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// address turns unix:/path, http://host or https://host into a base URL and what dials it.
func address(s string) (base string, dial dialer, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		return "http://kms", func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", nil, fmt.Errorf("bad address %q: want unix:/path, http://host or https://host", s)
	}
	return u.Scheme + "://" + u.Host, (&net.Dialer{}).DialContext, nil
}

func (p *Probe) tls() (*tls.Config, error) {
	if p.Target.CA == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(p.Target.CA)) {
		return nil, errors.New("the CA is no PEM certificate")
	}
	return &tls.Config{RootCAs: pool}, nil
}
