package chat

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

// compilers bounds how many NG lists are compiled at a time: one tenant's huge list leaves a core to the others.
const compilers = 2

// words holds a compiled matcher for each tenant that speaks here. After a change the old one serves until the new one is compiled.
type words struct {
	ctx      context.Context
	store    Store
	log      *slog.Logger
	matchers *cache[string, *ngword.Filter]
	slots    chan struct{}

	mu      sync.Mutex
	running map[string]bool // a refresh is under way; true: and must run once more
	wg      sync.WaitGroup
}

func newWords(ctx context.Context, st Store, log *slog.Logger) *words {
	return &words{
		ctx: ctx, store: st, log: log,
		matchers: newCache[string, *ngword.Filter](4096),
		slots:    make(chan struct{}, compilers),
		running:  map[string]bool{},
	}
}

func (w *words) matcher(ctx context.Context, tenant string) (*ngword.Filter, error) {
	return w.matchers.get(ctx, tenant, func(ctx context.Context) (*ngword.Filter, error) { return w.compile(ctx, tenant) })
}

func (w *words) compile(ctx context.Context, tenant string) (*ngword.Filter, error) {
	list, err := w.store.NGRead(ctx, tenant, store.NGDefault)
	if err != nil {
		return nil, err
	}
	m, err := ngword.Compile(list)
	if err != nil {
		return nil, err
	}
	return ngword.NewFilter(m), nil
}

// changed renews a tenant's matcher in the background; an empty tenant renews all.
func (w *words) changed(tenant string) {
	tenants := []string{tenant}
	if tenant == "" {
		tenants = w.matchers.keys()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range tenants {
		if _, ok := w.running[t]; ok {
			w.running[t] = true
			continue
		}
		if !w.matchers.known(t) || w.ctx.Err() != nil {
			continue
		}
		w.running[t] = false
		w.wg.Go(func() { w.refresh(t) })
	}
}

func (w *words) refresh(tenant string) {
	for {
		if !w.refreshOnce(tenant) {
			return
		}
		w.mu.Lock()
		again := w.running[tenant]
		if again {
			w.running[tenant] = false
		} else {
			delete(w.running, tenant)
		}
		w.mu.Unlock()
		if !again {
			return
		}
	}
}

// refreshOnce tries until the new list serves; false means that the service is closing.
func (w *words) refreshOnce(tenant string) bool {
	for {
		select {
		case w.slots <- struct{}{}:
		case <-w.ctx.Done():
			return false
		}
		ctx, cancel := context.WithTimeout(w.ctx, dbTimeout)
		m, err := w.compile(ctx, tenant)
		cancel()
		<-w.slots
		if err == nil {
			w.matchers.replace(tenant, m)
			return true
		}
		w.log.Warn("cannot renew the NG words, the old ones serve", "tenant", tenant, "error", err)
		select {
		case <-w.ctx.Done():
			return false
		case <-time.After(recheckPause):
		}
	}
}

func (w *words) wait() { w.wg.Wait() }

// judge applies the tenant's NG words to a message: it refuses it, or changes what is delivered, and to whom.
func (s *Service) judge(ctx context.Context, line *envelope.Envelope) error {
	m, err := s.words.matcher(ctx, line.Tenant)
	if err != nil {
		return s.readError("read the NG words", err)
	}
	verdict := m.Check(line.Text)
	if verdict.Action == "" {
		return nil
	}
	s.counts.ngword(verdict.Action)
	switch verdict.Action {
	case "mask":
		line.Text = verdict.Text
	case "flag":
		s.log.Info("message flagged", "tenant", line.Tenant, "channel", line.Channel, "id", line.ID, "words", len(verdict.Hits))
	case "shadow":
		line.Shadow = true
	default: // reject, and what this version does not know
		return Errorf(CodeNGWord, "the message holds a word that is not allowed here")
	}
	return nil
}
