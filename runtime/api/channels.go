package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

// channel is a channel as game servers see it; without history it has neither epoch nor positions. Masked is told to who made it.
type channel struct {
	ID        string `json:"id"`
	Kind      string `json:"kind"`
	History   string `json:"history"`
	Name      string `json:"name"`
	Masked    bool   `json:"masked,omitempty"`
	Epoch     string `json:"epoch,omitempty"`
	First     int64  `json:"first,omitempty"`
	Head      *int64 `json:"head,omitempty"`
	CreatedAt int64  `json:"created_at"`
}

func channelOf(ch store.Channel) channel {
	out := channel{ID: ch.ID, Kind: ch.Kind, History: ch.History, Name: ch.Name, CreatedAt: ch.CreatedAt.UnixMilli()}
	if ch.History != store.HistoryNone {
		out.Epoch, out.First, out.Head = ch.Epoch, ch.First, &ch.Head
	}
	return out
}

// channel reads the channel that the path names.
func (c *call) channel() (store.Channel, error) {
	ch, err := c.store.Channel(c.ctx, c.tenant, c.path["channel"])
	return ch, missing(err)
}

func getChannels(c *call) (answer, error) {
	limit, err := c.limit()
	if err != nil {
		return answer{}, err
	}
	all, err := c.store.Channels(c.ctx, c.tenant)
	if err != nil {
		return answer{}, err
	}
	page, more := pageOf(all, func(ch store.Channel) string { return ch.ID }, c.query["after"], int(limit))
	out := struct {
		Channels []channel `json:"channels"`
		More     bool      `json:"more"`
	}{make([]channel, len(page)), more}
	for i, ch := range page {
		out.Channels[i] = channelOf(ch)
	}
	return ok(out)
}

// pageOf returns at most limit entries whose key follows after, of a list in the order of its keys, and whether there are more.
func pageOf[T any](list []T, key func(T) string, after string, limit int) ([]T, bool) {
	start, found := slices.BinarySearchFunc(list, after, func(item T, after string) int { return strings.Compare(key(item), after) })
	if found {
		start++
	}
	list = list[start:]
	return list[:min(limit, len(list))], len(list) > limit
}

func getChannel(c *call) (answer, error) {
	ch, err := c.channel()
	if err != nil {
		return answer{}, err
	}
	return ok(channelOf(ch))
}

// wanted is the body of putChannel. What is left out has its default in a new channel and stays as it is in another.
type wanted struct {
	Kind    string `json:"kind"`
	History string `json:"history"`
	Name    string `json:"name"`
}

func (w wanted) check() error {
	err := cmp.Or(
		oneOf("kind", w.Kind, "", store.KindWorld, store.KindGuild, store.KindDirect),
		oneOf("history", w.History, "", store.HistoryLog, store.HistoryNone),
	)
	if err == nil && w.Name != "" {
		err = badName(names.Display(w.Name))
	}
	return err
}

// differs names the first field in which a channel is not as wanted.
func (w wanted) differs(ch store.Channel) error {
	for _, f := range []struct{ name, want, is string }{
		{"kind", w.Kind, ch.Kind}, {"history", w.History, ch.History}, {"name", w.Name, ch.Name},
	} {
		if f.want != "" && f.want != f.is {
			return chat.Errorf(codeChannelDiffers, "the channel exists with the %s %q, not %q", f.name, f.is, f.want)
		}
	}
	return nil
}

// putChannel makes a channel unless it is there already.
func putChannel(c *call) (answer, error) {
	var want wanted
	if err := c.read(&want); err != nil {
		return answer{}, err
	}
	if err := want.check(); err != nil {
		return answer{}, err
	}
	ch, err := c.store.Channel(c.ctx, c.tenant, c.path["channel"])
	if err == nil {
		return c.existing(ch, want)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return answer{}, err
	}
	name, err := c.judged("channel "+c.path["channel"], want.Name)
	if err != nil {
		return answer{}, err
	}
	ch, err = c.store.CreateChannel(c.ctx, store.Channel{
		Tenant: c.tenant, ID: c.path["channel"], Kind: want.Kind, History: want.History, Name: name.Text,
	})
	if err == nil {
		c.chat.Changed()
		out := channelOf(ch)
		out.Masked = name.Masked
		return answer{http.StatusCreated, out}, nil
	}
	if !errors.Is(err, store.ErrExists) {
		return answer{}, err
	}
	if ch, err = c.store.Channel(c.ctx, c.tenant, c.path["channel"]); errors.Is(err, store.ErrNotFound) {
		return answer{}, chat.Errorf(codeConflict, "the channel was deleted at the same moment")
	} else if err != nil {
		return answer{}, err
	}
	return c.existing(ch, want)
}

// existing answers with a channel that is there, if it is as wanted. Its name may be the wanted one as it was masked.
func (c *call) existing(ch store.Channel, want wanted) (answer, error) {
	out := channelOf(ch)
	if want.Name != "" && want.Name != ch.Name {
		if name, err := c.judged("channel "+ch.ID, want.Name); err == nil && name.Masked && name.Text == ch.Name {
			want.Name, out.Masked = "", true
		}
	}
	if err := want.differs(ch); err != nil {
		return answer{}, err
	}
	return ok(out)
}

func deleteChannel(c *call) (answer, error) {
	if err := c.store.DeleteChannel(c.ctx, c.tenant, c.path["channel"]); err != nil {
		return answer{}, missing(err)
	}
	c.chat.Changed()
	return done, nil
}

func badName(err error) error {
	if err == nil {
		return nil
	}
	return chat.Errorf(chat.CodeBadName, "%v", err)
}

// oneOf checks a field of a closed set; the empty text is allowed where it is listed, and then not named.
func oneOf(field, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	list := strings.TrimPrefix(strings.Join(allowed, " or "), " or ")
	return badRequest("bad %s %s: want %s", field, fmt.Sprintf("%q", clip(value)), list)
}
