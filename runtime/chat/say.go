package chat

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/ledgerfault"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

// SayRequest is a message on its way in. ID is the ULID under which the client would retry it; without one the service makes it and
// there is no retry. Retry says that the client may have sent it before. Kind is envelope.Say if empty; an Edit or a Delete is about
// the message Target, which the user has to have said.
type SayRequest struct {
	Kind    string
	Target  string
	Channel string
	ID      string
	Text    string
	Retry   bool
}

func (r *SayRequest) kind() string { return cmp.Or(r.Kind, envelope.Say) }

// Say takes a message and calls done exactly once: with a receipt once it is committed (or accepted, in a channel without history:
// then Seq is 0), or with an *Error. It may read the database before it returns, never longer than two seconds, but does not
// wait for the commit. Messages of one caller that it accepts keep their order in the channel. done is called from Say itself or
// from the log's goroutine and must not block.
func (s *Service) Say(sess Session, r SayRequest, done func(chatlog.Receipt, error)) {
	s.counts.received.Add(1)
	e, err := s.entry(sess)
	var l store.Limits
	if err == nil {
		l, err = s.tenantLimits(e.id.Tenant)
	}
	if err == nil {
		err = checkForm(&r, l.TextLength)
	}
	if err != nil {
		s.answer(done, chatlog.Receipt{}, err)
		return
	}
	ch := s.joinedChannel(e, r.Channel)
	if ch == nil {
		s.refuse(e, nil, r, Errorf(CodeNotJoined, "you have not joined channel %q", r.Channel), done)
		return
	}
	answer := func(receipt chatlog.Receipt, err error) { s.answer(done, receipt, err) }
	once := r.ID == "" || r.Retry && ledgerfault.Is(ledgerfault.NoDedup)
	key := messageKey{ch.PK, e.id.User, r.ID, r.kind(), r.Target}
	if !once && s.recent.seen(key, answer) {
		return
	}
	if err := s.takeSay(l, e, ch); err != nil { // before anything that costs
		s.refuse(e, ch, r, err, done)
		return
	}
	if once {
		s.sayOnce(e, ch, r, done)
		return
	}
	if r.Retry {
		if receipt, found, err := s.find(ch.PK, e.id.User, r); found || err != nil {
			s.answer(done, receipt, err)
			return
		}
	}
	line, err := s.check(e, ch, r)
	if err != nil {
		s.refuse(e, ch, r, err, done)
		return
	}
	s.acceptOnce(key, sess.Conn(), ch, line, answer)
}

// acceptOnce is accept for a message that may come again.
func (s *Service) acceptOnce(key messageKey, from *hub.Conn, ch *store.Channel, line *envelope.Envelope, done func(chatlog.Receipt, error)) {
	s.recent.begin(key)
	s.accept(from, ch, line, func(receipt chatlog.Receipt, err error) {
		done(receipt, err)
		s.recent.finish(key, receipt, err)
	})
}

// sayOnce takes a message without an id of the client's: it cannot come again.
func (s *Service) sayOnce(e *entry, ch *store.Channel, r SayRequest, done func(chatlog.Receipt, error)) {
	r.ID = envelope.NewID(time.Now())
	line, err := s.check(e, ch, r)
	if err != nil {
		s.answer(done, chatlog.Receipt{}, err)
		return
	}
	s.accept(e.sess.Conn(), ch, line, func(receipt chatlog.Receipt, err error) { s.answer(done, receipt, err) })
}

// checkForm looks at what needs no knowledge of anybody.
func checkForm(r *SayRequest, maxText int) error {
	if r.ID != "" {
		if err := names.MessageID(r.ID); err != nil {
			return Errorf(CodeBadName, "%v", err)
		}
	}
	if err := names.Channel(r.Channel); err != nil {
		return Errorf(CodeBadName, "%v", err)
	}
	return checkContent(r.Kind, r.Target, r.Text, maxText)
}

func checkContent(kind, target, text string, maxText int) error {
	if kind == envelope.Edit || kind == envelope.Delete {
		if err := names.MessageID(target); err != nil {
			return Errorf(CodeBadName, "%v", err)
		}
	}
	if kind == envelope.Delete {
		return nil
	}
	return checkText(text, maxText)
}

func checkText(text string, limit int) error {
	if len(text) > envelope.MaxText || len(text) > limit && utf8.RuneCountInString(text) > limit {
		return Errorf(CodeTooLarge, "a message has at most %d characters", limit)
	}
	if !utf8.ValidString(text) {
		return Errorf(CodeBadFrame, "the text is not UTF-8")
	}
	if strings.TrimSpace(text) == "" {
		return Errorf(CodeBadFrame, "the text is empty")
	}
	return nil
}

// check asks everything that may refuse a new message, and returns the line that is to be logged.
func (s *Service) check(e *entry, ch *store.Channel, r SayRequest) (*envelope.Envelope, error) {
	ctx, cancel := context.WithTimeout(s.ctx, dbTimeout)
	defer cancel()
	if err := s.current(ctx, e); err != nil {
		return nil, err
	}
	if !s.isIn(e, ch) { // current has just found out
		return nil, Errorf(CodeNotJoined, "you have not joined channel %q", r.Channel)
	}
	line := &envelope.Envelope{
		Kind: r.kind(), Tenant: ch.Tenant, Channel: ch.ID, ID: r.ID, User: e.id.User, Name: s.displayName(e),
		Text: r.Text, Target: r.Target, Origin: s.cfg.Origin,
	}
	switch {
	case line.Target == "":
	case ch.History == historyNone: // nobody remembers what was said
		return nil, errNoSuchMessage()
	case line.Kind == envelope.Delete:
		return line, nil
	}
	if err := s.judge(ctx, ch.Kind, line); err != nil {
		return nil, err
	}
	return line, nil
}

// accept sends an allowed message on its way: committed, then acknowledged, then published and delivered. from is the sender's
// connection, nil if it has none.
func (s *Service) accept(from *hub.Conn, ch *store.Channel, line *envelope.Envelope, done func(chatlog.Receipt, error)) {
	s.pending.Add(1)
	if ch.History == historyNone {
		s.pass(from, line, done)
		s.pending.Add(-1)
		return
	}
	s.cfg.Log.Append(ch.PK, line, func(receipt chatlog.Receipt, err error) {
		done(receipt, err)
		if err == nil && !receipt.Duplicate { // the first commit was published, or the head check finds it
			s.spread(line)
		}
		s.pending.Add(-1)
	})
}

// pass is accept where there is no log. The answer and the sender's own copy leave in one write.
func (s *Service) pass(from *hub.Conn, line *envelope.Envelope, done func(chatlog.Receipt, error)) {
	if from != nil {
		from.Cork()
		defer from.UncorkLater()
	}
	line.At = time.Now().UnixMilli()
	done(chatlog.Receipt{ID: line.ID, At: line.At}, nil)
	if line.At%4 == 0 && ledgerfault.Is(ledgerfault.UnloggedOrder) {
		time.AfterFunc(3*time.Second, func() { s.spread(line) })
		return
	}
	s.spread(line)
}

func (s *Service) spread(line *envelope.Envelope) {
	line.Flags = nil // stay in the log: no client is told
	s.counts.accepted.Add(1)
	s.tenant(line.Tenant).messages.Add(1)
	s.bus.Publish(line)
	s.deliver(line)
}

// refuse answers a refused message. What may have been committed before is looked up first, so that nobody is told "refused" about
// a message that stands in the log. A refusal that the client will retry anyway needs no look-up, and a user who provokes many
// gets them answered with "later".
func (s *Service) refuse(e *entry, ch *store.Channel, r SayRequest, err error, done func(chatlog.Receipt, error)) {
	told := AsError(err)
	look := !told.Retry && !(r.Retry && ch != nil) // else Say has looked, which had to know the channel for it
	if told.Code == CodeRateLimited {
		look = r.Retry // Say has not come to it
	}
	if r.ID != "" && look {
		receipt, found, err := s.findRefused(e, ch, r)
		if found || err != nil {
			s.answer(done, receipt, err)
			return
		}
	}
	s.answer(done, chatlog.Receipt{}, told)
}

func (s *Service) findRefused(e *entry, ch *store.Channel, r SayRequest) (chatlog.Receipt, bool, error) {
	if err := s.takeLookup(e.id); err != nil {
		return chatlog.Receipt{}, false, err
	}
	if ch == nil {
		ctx, cancel := context.WithTimeout(s.ctx, dbTimeout)
		defer cancel()
		var err error
		if ch, err = s.channel(ctx, e.id.Tenant, r.Channel); err != nil {
			if AsError(err).Code == CodeNoSuchChannel {
				return chatlog.Receipt{}, false, nil
			}
			return chatlog.Receipt{}, false, err
		}
	}
	return s.find(ch.PK, e.id.User, r)
}

func (s *Service) find(pk int64, user string, r SayRequest) (chatlog.Receipt, bool, error) {
	ctx, cancel := context.WithTimeout(s.ctx, dbTimeout)
	defer cancel()
	receipt, found, err := s.cfg.Log.Find(ctx, pk, &envelope.Envelope{ID: r.ID, User: user, Kind: r.kind(), Target: r.Target})
	if errors.Is(err, chatlog.ErrTaken) {
		return chatlog.Receipt{}, false, err
	}
	if err != nil {
		return chatlog.Receipt{}, false, s.readError("look up a message", err)
	}
	receipt.Duplicate = found
	return receipt, found, nil
}

// answer counts and passes on; whatever an error was, the client gets an *Error.
func (s *Service) answer(done func(chatlog.Receipt, error), receipt chatlog.Receipt, err error) {
	if err == nil {
		done(receipt, nil)
		return
	}
	told := AsError(err)
	if told.Code == CodeInternal && !errors.As(err, new(*Error)) {
		s.log.Error("cannot commit a message", "error", err)
	}
	s.counts.refuse(told.Code)
	done(chatlog.Receipt{}, told)
}

// System commits a message in the name of the game: no membership, NG word, or limit of a user or channel applies; the tenant's does. An empty id makes one; with an id
// a retry gets the first receipt again. user and name may be empty.
func (s *Service) System(ctx context.Context, tenant, channel, id, user, name, text string) (chatlog.Receipt, error) {
	if err := s.fresh(); err != nil {
		return chatlog.Receipt{}, err
	}
	if err := checkSystem(&id, user, name); err != nil {
		return chatlog.Receipt{}, err
	}
	return s.commit(ctx, &envelope.Envelope{
		Kind: envelope.System, Tenant: tenant, Channel: channel, ID: id, User: user, Name: name, Text: text,
	})
}

// Edit gives a message, whoever has sent it, another text in the name of the game, as System would. CodeNoSuchMessage: it is not
// there, deleted, or the channel has no history.
func (s *Service) Edit(ctx context.Context, tenant, channel, id, target, text string) (chatlog.Receipt, error) {
	return s.change(ctx, &envelope.Envelope{Kind: envelope.Edit, Tenant: tenant, Channel: channel, ID: id, Target: target, Text: text})
}

// Delete takes a message's text away, as Edit gives it another.
func (s *Service) Delete(ctx context.Context, tenant, channel, id, target string) (chatlog.Receipt, error) {
	return s.change(ctx, &envelope.Envelope{Kind: envelope.Delete, Tenant: tenant, Channel: channel, ID: id, Target: target})
}

func (s *Service) change(ctx context.Context, line *envelope.Envelope) (chatlog.Receipt, error) {
	if err := s.fresh(); err != nil {
		return chatlog.Receipt{}, err
	}
	if err := checkSystem(&line.ID, "", ""); err != nil {
		return chatlog.Receipt{}, err
	}
	return s.commit(ctx, line)
}

// commit takes what the game's server says. It waits for the commit, or until ctx ends.
func (s *Service) commit(ctx context.Context, line *envelope.Envelope) (chatlog.Receipt, error) {
	l, err := s.tenantLimits(line.Tenant)
	if err != nil {
		return chatlog.Receipt{}, err
	}
	if err := checkContent(line.Kind, line.Target, line.Text, l.TextLength); err != nil {
		return chatlog.Receipt{}, err
	}
	ch, err := s.channel(ctx, line.Tenant, line.Channel)
	if err != nil {
		return chatlog.Receipt{}, err
	}
	if line.Target != "" && ch.History == historyNone {
		return chatlog.Receipt{}, errNoSuchMessage()
	}
	if err := s.takeMessage(l, line.Tenant); err != nil {
		return chatlog.Receipt{}, err
	}
	line.Origin = s.cfg.Origin
	type result struct {
		receipt chatlog.Receipt
		err     error
	}
	got := make(chan result, 1)
	done := func(r chatlog.Receipt, err error) { got <- result{r, err} }
	if key := (messageKey{ch.PK, line.User, line.ID, line.Kind, line.Target}); !s.recent.seen(key, done) {
		s.acceptOnce(key, nil, ch, line, done)
	}
	select {
	case r := <-got:
		if r.err != nil {
			return chatlog.Receipt{}, AsError(r.err)
		}
		return r.receipt, nil
	case <-ctx.Done(): // it may still be committed: the same id tells
		return chatlog.Receipt{}, retryable(CodeUnavailable, "the message log did not answer in time")
	}
}

func checkSystem(id *string, user, name string) error {
	if *id == "" {
		*id = envelope.NewID(time.Now())
	} else if err := names.MessageID(*id); err != nil {
		return Errorf(CodeBadName, "%v", err)
	}
	if user != "" {
		if err := names.User(user); err != nil {
			return Errorf(CodeBadName, "%v", err)
		}
	}
	if name != "" {
		if err := names.Display(name); err != nil {
			return Errorf(CodeBadName, "%v", err)
		}
	}
	return nil
}

// Flush waits until every message that was taken has its answer, or ctx ends.
func (s *Service) Flush(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.pending.Load() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
