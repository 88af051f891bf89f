package chat

import (
	"context"
	"runtime/debug"
	"slices"

	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

// judge applies the tenant's NG words to a message in a channel of a kind: it refuses it, or changes what is delivered, and to whom.
func (s *Service) judge(ctx context.Context, kind string, line *envelope.Envelope) error {
	verdict, err := s.verdict(ctx, line.Tenant, kind, line.Text)
	if err != nil || verdict.Action == "" {
		return err
	}
	if line.Flags = flags(verdict); len(line.Flags) > 0 {
		s.log.Info("message flagged", "tenant", line.Tenant, "channel", line.Channel, "id", line.ID, "words", len(line.Flags))
	}
	switch verdict.Action {
	case store.NGMask:
		line.Text = verdict.Text
	case store.NGFlag:
	case store.NGShadow:
		line.Shadow = true
	default: // reject, and what this version does not know
		return Errorf(CodeNGWord, "the message holds a word that is not allowed here")
	}
	return nil
}

// flags are the words of action flag, each once. That a word of another action stands there too hides none of them.
func flags(verdict ngword.Result) (words []string) {
	for _, h := range verdict.Hits {
		if h.Action == store.NGFlag && !slices.Contains(words, h.Word) && len(words) < envelope.MaxFlags {
			words = append(words, h.Word)
		}
	}
	return words
}

// Name is a display name that was judged. Masked: parts of it were replaced.
type Name struct {
	Text   string
	Masked bool
}

// JudgeName applies the lists of a tenant that judge names to a display name of a user or a channel; holder says whose, for the
// log. The error is CodeNGWord for a name that may not be used, and retryable while the lists cannot be read.
func (s *Service) JudgeName(ctx context.Context, tenant, holder, name string) (Name, error) {
	verdict, err := s.verdict(ctx, tenant, store.NGScopeName, name)
	switch {
	case err != nil:
		return Name{}, err
	case verdict.Action == "":
		return Name{Text: name}, nil
	}
	if words := flags(verdict); len(words) > 0 {
		s.log.Info("name flagged", "tenant", tenant, "holder", holder, "words", len(words))
	}
	switch verdict.Action {
	case store.NGMask:
		return Name{Text: verdict.Text, Masked: true}, nil
	case store.NGFlag:
		return Name{Text: name}, nil
	}
	return Name{}, Errorf(CodeNGWord, "the name holds a word that is not allowed")
}

// verdict asks the tenant's lists for a scope about a text, and counts what they say.
func (s *Service) verdict(ctx context.Context, tenant, scope, text string) (v ngword.Result, err error) {
	f, err := s.filter(ctx, tenant, scope)
	if f == nil {
		return v, err
	}
	defer func() {
		if bug := recover(); bug != nil { // one line must not end everybody's connection
			s.log.Error("internal error: judging a text panics", "tenant", tenant, "panic", bug, "stack", string(debug.Stack()))
			err = Errorf(CodeInternal, "internal error")
		}
	}()
	v = f.Check(text)
	if v.Action != "" {
		s.counts.ngword(v.Action)
	}
	return v, nil
}

// Explain says what the lists that are in force for a scope find in a text, and why. What has just been changed it waits for, a
// second at most.
func (s *Service) Explain(ctx context.Context, tenant, scope, text string) (ngword.Explanation, error) {
	if _, err := s.filter(ctx, tenant, scope); err != nil {
		return ngword.Explanation{}, err
	}
	if err := s.words.settle(ctx, tenant); err != nil {
		return ngword.Explanation{}, s.readError("read the NG words", err)
	}
	f, err := s.filter(ctx, tenant, scope)
	if f == nil {
		return ngword.Explanation{Text: text}, err
	}
	return f.Explain(text), nil
}

// filter is nil where nothing is forbidden.
func (s *Service) filter(ctx context.Context, tenant, scope string) (*ngword.Filter, error) {
	f, err := s.words.of(ctx, tenant)
	if err != nil {
		return nil, s.readError("read the NG words", err)
	}
	return f.of(scope), nil
}
