package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kmsctl/kms/runtime/names"
)

// Limits are a tenant's quotas; zero stands for the default. Rates and connections are counted by each process for itself, channels
// and members in the database, for all.
type Limits struct {
	MessagesPerSecond        int
	ChannelMessagesPerSecond int
	UserMessagesPerSecond    int
	APIRequestsPerSecond     int
	Connections              int
	Channels                 int
	ChannelMembers           int
	TextLength               int
}

// Limit is one of the quotas: its name (a flag has - for _), what it bounds, its default and the most it can be set to.
type Limit struct {
	Name, About  string
	Default, Max int
	Of           func(*Limits) *int
}

// AllLimits are the quotas, in the order in which they are shown.
var AllLimits = []Limit{
	{"messages_per_second", "messages of all users and game servers together", 2000, 1_000_000, func(l *Limits) *int { return &l.MessagesPerSecond }},
	{"channel_messages_per_second", "messages of users in one channel", 1000, 1_000_000, func(l *Limits) *int { return &l.ChannelMessagesPerSecond }},
	{"user_messages_per_second", "messages of one user", 20, 1_000_000, func(l *Limits) *int { return &l.UserMessagesPerSecond }},
	{"api_requests_per_second", "requests of the game servers", 3000, 1_000_000, func(l *Limits) *int { return &l.APIRequestsPerSecond }},
	{"connections", "clients that are logged in", 50_000, 1_000_000, func(l *Limits) *int { return &l.Connections }},
	{"channels", "channels", 100_000, 10_000_000, func(l *Limits) *int { return &l.Channels }},
	{"channel_members", "members of one channel", 10_000, 1_000_000, func(l *Limits) *int { return &l.ChannelMembers }},
	{"text_length", "characters of a message", 1000, 4000, func(l *Limits) *int { return &l.TextLength }},
}

// Or returns the limits with those of defaults in place of the zero ones, and ours where that has none either.
func (l Limits) Or(defaults Limits) Limits {
	for _, limit := range AllLimits {
		for _, otherwise := range []int{*limit.Of(&defaults), limit.Default} {
			if n := limit.Of(&l); *n == 0 {
				*n = otherwise
			}
		}
	}
	return l
}

func limitNamed(name string) (Limit, error) {
	all := make([]string, len(AllLimits))
	for i, limit := range AllLimits {
		if limit.Name == name {
			return limit, nil
		}
		all[i] = limit.Name
	}
	return Limit{}, &names.Error{What: "limit", Value: name, Rule: strings.Join(all, ", ")}
}

// CheckLimits refuses names that are none of ours and values out of bounds; 0 stands for the default.
func CheckLimits(change map[string]int) error {
	for name, value := range change {
		limit, err := limitNamed(name)
		if err != nil {
			return err
		}
		if value < 0 || value > limit.Max {
			return &names.Error{What: name, Value: fmt.Sprint(value), Rule: fmt.Sprintf("1 to %d, or 0 for the default", limit.Max)}
		}
	}
	return nil
}

// SetTenantLimits changes the limits that are named, 0 to the default, and leaves the others as they are.
func (s *Store) SetTenantLimits(ctx context.Context, id string, change map[string]int) error {
	err := CheckLimits(change)
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error { return tx.setLimits(id, change) })
	}
	if err != nil {
		return fmt.Errorf("cannot set the limits of tenant %q: %w", id, err)
	}
	return nil
}

func (tx *Tx) setLimits(id string, change map[string]int) error {
	var text string
	err := Wrap(tx.scan(`SELECT limits FROM tenants WHERE id = ?`+tx.dialect.ForUpdate(), []any{id}, &text))
	if err != nil {
		return err
	}
	// As raw values: what a newer build has set stays.
	set := map[string]json.RawMessage{}
	if json.Unmarshal([]byte(text), &set) != nil || set == nil {
		set = map[string]json.RawMessage{}
	}
	for name, value := range change {
		if value == 0 {
			delete(set, name)
		} else {
			set[name] = json.RawMessage(fmt.Sprint(value))
		}
	}
	text = ""
	if len(set) > 0 {
		out, err := json.Marshal(set)
		if err != nil {
			return err
		}
		text = string(out)
	}
	if err := tx.exec(`UPDATE tenants SET limits = ? WHERE id = ?`, text, id); err != nil {
		return err
	}
	return tx.Change(ChangeTenant, id, id, "limits")
}

// parseLimits reads what is stored. A value that cannot be is the most restrictive one; a limit that only newer builds know is theirs.
func parseLimits(text string) (l Limits) {
	if text == "" {
		return l
	}
	set := map[string]json.RawMessage{}
	broken := json.Unmarshal([]byte(text), &set) != nil
	for _, limit := range AllLimits {
		value, ok := set[limit.Name]
		if !ok && !broken {
			continue
		}
		n := limit.Of(&l)
		if json.Unmarshal(value, n) != nil || *n < 1 || *n > limit.Max {
			*n = 1
		}
	}
	return l
}

// channelCounts remember how many channels tenants have, so that whoever makes thousands does not have all of them counted each time.
type channelCounts struct {
	mu      sync.Mutex
	tenants map[string]channelCount
}

type channelCount struct {
	n  int // with those made by this process since
	at time.Time
}

// fits adds one to a count that is fresh and below the limit; else the channels have to be counted.
func (c *channelCounts) fits(tenant string, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.tenants[tenant]
	if known.n >= limit || time.Since(known.at) > time.Second {
		return false
	}
	known.n++
	c.tenants[tenant] = known
	return true
}

func (c *channelCounts) put(tenant string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenants == nil {
		c.tenants = map[string]channelCount{}
	}
	c.tenants[tenant] = channelCount{n, time.Now()}
}

// channelFits refuses a channel beyond the tenant's limit. It counts before the transaction: thousands of rows are not to be counted
// while all other writers wait.
func (s *Store) channelFits(ctx context.Context, tenant, id string) error {
	t, err := s.Tenant(ctx, tenant)
	if err != nil {
		return err
	}
	limit := t.Limits.Or(Limits{}).Channels
	if s.channels.fits(tenant, limit) {
		return nil
	}
	var n, same int
	err = s.DB().QueryRowContext(ctx, `SELECT COUNT(*), COUNT(CASE WHEN id = ? THEN 1 END) FROM channels WHERE tenant = ? AND live = 1`,
		id, tenant).Scan(&n, &same)
	if err != nil {
		return Wrap(err)
	}
	s.channels.put(tenant, n+1)
	if n >= limit && same == 0 { // else ErrExists follows
		return fmt.Errorf("%w: a tenant has at most %d channels", ErrLimit, limit)
	}
	return nil
}

// membersFit refuses a member beyond the tenant's limit, once it is in.
func (tx *Tx) membersFit(c Channel) error {
	var text string
	if err := tx.scan(`SELECT limits FROM tenants WHERE id = ?`, []any{c.Tenant}, &text); err != nil {
		return err
	}
	var n int
	if err := tx.scan(`SELECT COUNT(*) FROM members WHERE channel_pk = ?`, []any{c.PK}, &n); err != nil {
		return err
	}
	if limit := parseLimits(text).Or(Limits{}).ChannelMembers; n > limit {
		return fmt.Errorf("%w: a channel has at most %d members", ErrLimit, limit)
	}
	return nil
}
