package api

import (
	"cmp"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// newMessage is the body of postMessage.
type newMessage struct {
	Text string `json:"text"`
	ID   string `json:"id"`
	User string `json:"user"`
	Name string `json:"name"`
}

// posted is where a message stands; without history there is no epoch and no seq.
type posted struct {
	ID     string `json:"id"`
	Epoch  string `json:"epoch,omitempty"`
	Seq    int64  `json:"seq,omitempty"`
	At     int64  `json:"at"`
	Logged bool   `json:"logged"`
}

func postMessage(c *call) (answer, error) {
	var in newMessage
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	if strings.TrimSpace(in.Text) == "" {
		return answer{}, badRequest("the field \"text\" is missing or empty")
	}
	r, err := c.settled(func() (chatlog.Receipt, error) {
		return c.chat.System(c.ctx, c.tenant, c.path["channel"], in.ID, in.User, in.Name, in.Text)
	})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, postedOf(r)}, nil
}

func postedOf(r chatlog.Receipt) posted { return posted{r.ID, r.Epoch, r.Seq, r.At, r.Seq > 0} }

// changed is the body of patchMessage. The id is the edit's own.
type changed struct {
	Text string `json:"text"`
	ID   string `json:"id"`
}

func patchMessage(c *call) (answer, error) {
	var in changed
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	if strings.TrimSpace(in.Text) == "" {
		return answer{}, badRequest("the field \"text\" is missing or empty")
	}
	r, err := c.settled(func() (chatlog.Receipt, error) {
		return c.chat.Edit(c.ctx, c.tenant, c.path["channel"], in.ID, c.path["message"], in.Text)
	})
	if err != nil {
		return answer{}, err
	}
	return ok(postedOf(r))
}

// deleteMessage takes no id: a message is deleted once, and a repetition finds nothing any more.
func deleteMessage(c *call) (answer, error) {
	r, err := c.settled(func() (chatlog.Receipt, error) {
		return c.chat.Delete(c.ctx, c.tenant, c.path["channel"], "", c.path["message"])
	})
	if err != nil {
		return answer{}, err
	}
	return ok(postedOf(r))
}

// settled does something to a channel. For up to a second after a channel was deleted and made anew this process may know the old one only:
// then it waits for the new one.
func (c *call) settled(do func() (chatlog.Receipt, error)) (chatlog.Receipt, error) {
	for pause := 5 * time.Millisecond; ; pause *= 2 {
		r, err := do()
		if err == nil || chat.AsError(err).Code != chat.CodeNoSuchChannel || pause > time.Second {
			return r, err
		}
		if _, err := c.channel(); err != nil {
			return r, err
		}
		select {
		case <-c.ctx.Done():
			return r, c.ctx.Err()
		case <-time.After(pause):
		}
	}
}

// message is an entry of the log as game servers read it. An entry that this version does not understand has the kind unknown.
type message struct {
	Seq     int64    `json:"seq"`
	ID      string   `json:"id"`
	Kind    string   `json:"kind"`
	User    string   `json:"user,omitempty"`
	Name    string   `json:"name,omitempty"`
	Text    string   `json:"text,omitempty"`
	Target  string   `json:"target,omitempty"`
	Shadow  bool     `json:"shadow,omitempty"`
	Edited  bool     `json:"edited,omitempty"`
	Flagged []string `json:"flagged,omitempty"`
	At      int64    `json:"at"`
}

const unknownKind = "unknown"

func messageOf(e *envelope.Envelope) message {
	if !e.Logged() {
		return message{Seq: e.Seq, ID: e.ID, Kind: unknownKind, At: e.At}
	}
	return message{e.Seq, e.ID, e.Kind, e.User, e.Name, e.Text, e.Target, e.Shadow, e.Edited != "", e.Flags, e.At}
}

// logPage is a page of a channel's log, in seq order. Next, which only a search for flagged messages has, is where to go on.
type logPage struct {
	Epoch    string    `json:"epoch"`
	First    int64     `json:"first"`
	Head     int64     `json:"head"`
	Messages []message `json:"messages"`
	More     bool      `json:"more"`
	Next     *int64    `json:"next,omitempty"`
}

func getMessages(c *call) (answer, error) {
	o, err := c.pageOptions()
	if err != nil {
		return answer{}, err
	}
	ch, err := c.channel()
	if err != nil {
		return answer{}, err
	}
	if ch.History == store.HistoryNone {
		return ok(logPage{Messages: []message{}})
	}
	page, err := chatlog.Query(c.ctx, c.store, ch.PK, o)
	if err != nil {
		return answer{}, err
	}
	out := logPage{Epoch: page.Head.Epoch, First: page.Head.First, Head: page.Head.Seq, Messages: make([]message, len(page.Messages)), More: page.More}
	if o.Flagged {
		out.Next = &page.Next
	}
	for i, e := range page.Messages {
		out.Messages[i] = messageOf(e)
	}
	return ok(out)
}

func (c *call) pageOptions() (o chatlog.QueryOptions, err error) {
	var limit int64
	var errs [5]error
	o.After, errs[0] = c.number("after", 0, 0, math.MaxInt64)
	o.Before, errs[1] = c.number("before", 0, 0, math.MaxInt64)
	limit, errs[2] = c.limit()
	o.Newest, errs[3] = c.flag("newest")
	o.Flagged, errs[4] = c.flag("flagged")
	o.Limit = int(limit)
	return o, cmp.Or(errs[:]...)
}

// limit is how many entries of a list are wanted.
func (c *call) limit() (int64, error) { return c.number("limit", defaultPage, 1, maxPage) }
