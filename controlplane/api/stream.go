package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

// errAnswered tells the server that a handler has answered by itself, as a stream does once it is upgraded.
var errAnswered = errors.New("answered")

// streamWrite bounds how long a stream waits for a reader that does not read.
const streamWrite = 10 * time.Second

var upgrader = websocket.Upgrader{
	ReadBufferSize: 512, WriteBufferSize: 4096, HandshakeTimeout: 5 * time.Second,
	CheckOrigin: func(r *http.Request) bool { return r.Header.Get("Origin") == "" }, // browsers have no business here
	Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
		writeError(w, &statusError{status, controlplane.Errorf(controlplane.Usage, "cannot open stream: %v", reason)})
	},
}

// streamError is the last message of a stream that did not end well.
type streamError struct {
	Error *controlplane.Error `json:"error"`
}

// stream upgrades and runs produce until it is done or the caller has gone. send blocks while the caller does not read.
func (c *call) stream(produce func(ctx context.Context, send func(any) error) error) error {
	conn, err := upgrader.Upgrade(c.w, c.r, nil)
	if err != nil {
		return errAnswered
	}
	ctx, cancel := context.WithCancel(c.ctx)
	reader := make(chan struct{})
	go func() { // notices a caller that goes; nothing that it says is read
		defer close(reader)
		defer cancel()
		conn.SetReadLimit(512)
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	}()
	err = produce(ctx, func(v any) error { return sendJSON(conn, v) })
	code, reason := websocket.CloseNormalClosure, ""
	if err != nil && ctx.Err() == nil {
		_, told := answerFor(err)
		sendJSON(conn, streamError{told})
		code, reason = websocket.CloseInternalServerErr, "see the last message"
	}
	if c.ctx.Err() != nil {
		code, reason = websocket.CloseServiceRestart, "the control plane stops"
	}
	conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(time.Second))
	conn.SetReadDeadline(time.Now().Add(time.Second)) // time for the close frame to come back
	<-reader
	cancel()
	conn.Close()
	return errAnswered
}

func sendJSON(conn *websocket.Conn, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	conn.SetWriteDeadline(time.Now().Add(streamWrite))
	return conn.WriteMessage(websocket.TextMessage, text)
}

func streamEvents(c *call) error {
	release, err := c.queryInt("release", 0)
	if err != nil {
		return err
	}
	last, err := c.queryInt("last", 0)
	if err != nil {
		return err
	}
	follow := true
	if c.query("follow") != "" {
		if follow, err = c.queryBool("follow"); err != nil {
			return err
		}
	}
	if release != 0 { // refused before the upgrade, where a status can still say so
		if _, err := c.Release(c.ctx, release); err != nil {
			return err
		}
	}
	return c.stream(func(ctx context.Context, send func(any) error) error {
		events, err := c.Events(ctx, controlplane.EventQuery{Release: release, Last: int(min(last, 10_000)), Follow: follow})
		if err != nil {
			return err
		}
		for {
			select {
			case <-ctx.Done():
				return nil
			case e, more := <-events:
				if !more {
					return nil
				}
				if err := send(e); err != nil {
					return err
				}
			}
		}
	})
}

func streamLogs(c *call) error {
	lines, err := c.queryInt("lines", 100)
	if err != nil {
		return err
	}
	follow, err := c.queryBool("follow")
	if err != nil {
		return err
	}
	q := controlplane.LogQuery{Version: c.query("version"), Set: c.query("set"), Role: c.query("role"), Lines: int(min(lines, 100_000)), Follow: follow}
	return c.stream(func(ctx context.Context, send func(any) error) error {
		return c.Logs(ctx, q, func(l controlplane.LogLine) error { return send(l) })
	})
}

// streamBus shows what people wrote only when that is asked for, which the audit trail then tells.
func streamBus(c *call) error {
	q := controlplane.BusQuery{Link: c.query("link"), Tenant: c.query("tenant"), Channel: c.query("channel"), Version: c.query("version")}
	var err error
	if q.Text, err = c.queryBool("text"); err != nil {
		return err
	}
	if err := c.checkBusQuery(q); err != nil {
		return err
	}
	if q.Text {
		subject := strings.Trim(q.Tenant+"/"+q.Channel, "/")
		c.Audited(c.ctx, c.who, "irc tail --text", clip(subject, 200), "", nil)
	}
	return c.stream(func(ctx context.Context, send func(any) error) error {
		return c.TailBus(ctx, q, func(l controlplane.BusLine) error { return send(l) })
	})
}

// checkBusQuery refuses what would show nothing for ever.
func (c *call) checkBusQuery(q controlplane.BusQuery) error {
	if q.Link != "" {
		if _, err := c.linkNamed(q.Link); err != nil {
			return err
		}
	}
	if q.Channel != "" {
		if err := names.Channel(q.Channel); err != nil {
			return err
		}
	}
	if q.Tenant == "" {
		return nil
	}
	if err := names.AnyTenant(q.Tenant); err != nil {
		return err
	}
	_, err := c.Store().Tenant(c.ctx, q.Tenant)
	if errors.Is(err, store.ErrNotFound) {
		return controlplane.Errorf(controlplane.NotFound, "there is no tenant %q", q.Tenant).WithHint("kmsctl tenant list")
	}
	return err
}
