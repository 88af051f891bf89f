package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
	"github.com/oklog/ulid/v2"

	"github.com/kmsctl/kms/cmd/internal/figure"
)

// limitsWithin bounds the waiting for what should be in force within a second; how long it took is reported.
const limitsWithin = 10 * time.Second

// limit lets the tenant say one message a second while everything runs, and make one API request: both are refused with the time to
// come again. Then it has its default limits back.
func (s *story) limit(ctx context.Context) error {
	ws, err := s.ben.dial(ctx)
	if err != nil {
		return err
	}
	defer ws.Close()
	if err := enterBare(ws, &s.ben.user); err != nil {
		return err
	}
	for _, act := range []struct {
		limit   string
		refused bool
	}{{"1", true}, {"0", false}} {
		_, err := s.must(ctx, nil, "tenant", "limits", tenant, "--messages-per-second", act.limit, "--api-requests-per-second", act.limit)
		if err != nil {
			return err
		}
		began := time.Now()
		for what, ask := range map[string]func() (refused bool, err error){
			"messages": func() (bool, error) { return sayThrice(ws) },
			"requests": func() (bool, error) { return s.askTwice(ctx) },
		} {
			if err := awaitRefused(act.refused, ask); err != nil {
				return fmt.Errorf("%s with a limit of %s: %v", what, act.limit, err)
			}
		}
		s.out.LimitsMS = max(s.out.LimitsMS, figure.Millis(time.Since(began)))
	}
	return nil
}

// awaitRefused asks no faster than a user may talk, whose own limit would refuse it otherwise.
func awaitRefused(wanted bool, ask func() (bool, error)) error {
	for deadline := time.Now().Add(limitsWithin); ; time.Sleep(200 * time.Millisecond) {
		refused, err := ask()
		if err != nil || refused == wanted {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("refused is %t after %v", refused, limitsWithin)
		}
	}
}

func enterBare(ws *websocket.Conn, u *user) error {
	_ = ws.SetReadDeadline(time.Now().Add(4 * limitsWithin))
	if err := ws.WriteJSON([]op2{{Op: "hello", Token: u.token}, {Op: "sub", Ch: u.channel}}); err != nil {
		return err
	}
	for {
		var ops []op2
		if err := ws.ReadJSON(&ops); err != nil {
			return err
		}
		for _, o := range ops {
			switch o.Op {
			case "subbed":
				return nil
			case "nack":
				return fmt.Errorf("refused: %+v", o)
			}
		}
	}
}

// sayThrice reports whether one of three messages was over a limit.
func sayThrice(ws *websocket.Conn) (refused bool, err error) {
	var sends []op2
	for range 3 {
		sends = append(sends, op2{Op: "send", Ch: lobby, ID: ulid.Make().String(), Text: "schnell"})
	}
	if err := ws.WriteJSON(sends); err != nil {
		return false, err
	}
	for answers := 0; answers < len(sends); {
		var ops []op2
		if err := ws.ReadJSON(&ops); err != nil {
			return false, err
		}
		for _, o := range ops {
			switch o.Op {
			case "ack":
				answers++
			case "nack":
				answers++
				if o.Code != "rate_limited" || !o.Retry || o.AfterMs <= 0 {
					return false, fmt.Errorf("refused otherwise: %+v", o)
				}
				refused = true
			}
		}
	}
	return refused, nil
}

// askTwice reports whether one of two API requests was over the limit.
func (s *story) askTwice(ctx context.Context) (refused bool, err error) {
	for range 2 {
		status, text, err := s.front.do(ctx, http.MethodGet, "/api/2.0/"+tenant+"/", s.game.key, nil)
		if err != nil {
			return false, err
		}
		var told struct {
			Code string `json:"code"`
		}
		switch {
		case status == http.StatusOK:
		case status != http.StatusTooManyRequests:
			return false, fmt.Errorf("HTTP %d: %s", status, text)
		case json.Unmarshal(text, &told) != nil || told.Code != "rate_limited":
			return false, errors.New("HTTP 429 without its code: " + string(text))
		default:
			refused = true
		}
	}
	return refused, nil
}
