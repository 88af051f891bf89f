package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

// front is nginx as clients and game servers see it: by HTTPS with the certificate that the rig made, or by plain HTTP.
type front struct {
	base   string // https://host:port
	tls    *tls.Config
	client *http.Client
}

func (r *rig) secure() (*front, error) {
	pem, err := os.ReadFile(r.path("nginx", "tls", "cert.pem"))
	if err != nil {
		return nil, fmt.Errorf("cannot read nginx's certificate: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("nginx's certificate is not PEM")
	}
	return newFront("https://"+r.https, &tls.Config{RootCAs: pool}), nil
}

func (r *rig) plain() *front { return newFront("http://"+r.http, nil) }

func newFront(base string, config *tls.Config) *front {
	return &front{base: base, tls: config, client: &http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 4},
	}}
}

func (f *front) close() { f.client.CloseIdleConnections() }

// get returns the status and body of a path.
func (f *front) get(ctx context.Context, path string) (int, []byte, error) {
	return f.do(ctx, http.MethodGet, path, "", nil)
}

func (f *front) do(ctx context.Context, method, path, key string, body any) (int, []byte, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	q, err := http.NewRequestWithContext(ctx, method, f.base+path, bytes.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	if key != "" {
		q.Header.Set("Authorization", "Bearer "+key)
	}
	if body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	answer, err := f.client.Do(q)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return answer.StatusCode, text, err
}

// handshakeError is a WebSocket that nginx or the server did not open.
type handshakeError struct {
	status int // 0: not even HTTP
	cause  error
}

func (e *handshakeError) Error() string {
	return fmt.Sprintf("cannot open a WebSocket: %v (HTTP %d)", e.cause, e.status)
}

func (f *front) dial(ctx context.Context, path string) (*websocket.Conn, error) {
	d := websocket.Dialer{TLSClientConfig: f.tls, HandshakeTimeout: 5 * time.Second}
	ws, answer, err := d.DialContext(ctx, "ws"+f.base[len("http"):]+path, nil)
	if err == nil {
		return ws, nil
	}
	e := &handshakeError{cause: err}
	if answer != nil {
		e.status = answer.StatusCode
	}
	return nil, e
}

// gameServer calls the API of a tenant.
type gameServer struct {
	front   *front
	version string
	tenant  string
	key     string
}

// apiError is an answer other than a success.
type apiError struct {
	what   string
	status int
	text   []byte
	Code   string `json:"code"`
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%s answers %d: %.300s", e.what, e.status, e.text)
}

// call makes one request that has to succeed, and reads the answer into v unless that is nil.
func (g *gameServer) call(ctx context.Context, method, path string, body, v any) error {
	status, text, err := g.front.do(ctx, method, "/api/"+g.version+"/"+g.tenant+"/"+path, g.key, body)
	if err != nil {
		return fmt.Errorf("cannot call the API: %v", err)
	}
	if status/100 != 2 {
		e := &apiError{what: method + " " + path, status: status, text: text}
		_ = json.Unmarshal(text, e) // what is not of the API has no code
		return e
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(text, v)
}

// token makes a token for a user.
func (g *gameServer) token(ctx context.Context, user, name string) (string, error) {
	var made struct {
		Token string `json:"token"`
	}
	err := g.call(ctx, http.MethodPut, "users/"+user+"/token", map[string]any{"name": name, "expires_in": 3600}, &made)
	return made.Token, err
}

// post sends a system message and returns its receipt.
func (g *gameServer) post(ctx context.Context, channel, text string) (receipt, error) {
	var posted struct {
		ID  string `json:"id"`
		Seq int64  `json:"seq"`
	}
	err := g.call(ctx, http.MethodPost, "channels/"+channel+"/messages", map[string]any{"text": text, "name": "KMS"}, &posted)
	return receipt{posted.ID, posted.Seq, text}, err
}
