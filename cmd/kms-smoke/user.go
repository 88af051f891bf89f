package main

import (
	"context"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// user is who a client is and where it connects.
type user struct {
	front                        *front
	version, tenant, id, channel string
	token                        string
}

func (u *user) dial(ctx context.Context) (*websocket.Conn, error) {
	return u.front.dial(ctx, "/ua/"+u.version+"/"+u.tenant+"?u="+url.QueryEscape(u.id))
}

func (u *user) on() string { return u.version }

// client is a user of either version who stays connected.
type client interface {
	say(text string)
	seen() *journal
	on() string // the version
	close()
}

// life is the time between a client's start and its close, with the goroutines that read for it.
type life struct {
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

func newLife() life {
	ctx, cancel := context.WithCancel(context.Background())
	return life{ctx: ctx, cancel: cancel}
}

// pause waits before the n-th new attempt: as the pages ask, only faster, since a test has no crowd to spread.
func (l *life) pause(n int) {
	wait := min(50*time.Millisecond<<min(n, 6), 500*time.Millisecond)
	select {
	case <-l.ctx.Done():
	case <-time.After(wait/2 + rand.N(wait/2)):
	}
}

// write sends one text frame; an error shows again when reading.
func write(ws *websocket.Conn, frame []byte) {
	_ = ws.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_ = ws.WriteMessage(websocket.TextMessage, frame)
}

// goodbye closes a connection in order.
func goodbye(ws *websocket.Conn) {
	text := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = ws.WriteControl(websocket.CloseMessage, text, time.Now().Add(time.Second))
}

// announced reports whether a connection ended with the close code for a server that restarts or moves.
func announced(err error) bool { return websocket.IsCloseError(err, websocket.CloseServiceRestart) }
