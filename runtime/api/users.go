package api

import (
	"errors"
	"time"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	minSecret   = 16                        // characters of a token that the game server made; a shorter one can be guessed
	tokenPrefix = "kmst_"                   // tells people, and what scans for leaked secrets, what it is
	maxExpires  = 10 * 365 * 24 * time.Hour // beyond it is a mistake of units
)

// root tells a game server that its key works.
type root struct {
	Tenant  string `json:"tenant"`
	Version string `json:"version"`
	Key     string `json:"key"`
}

func getRoot(c *call) (answer, error) { return ok(root{c.tenant, c.version, c.key.ID}) }

// newToken is the body of putToken.
type newToken struct {
	Token     string `json:"token"`
	Name      string `json:"name"`
	ExpiresIn *int64 `json:"expires_in"` // seconds
}

func (n newToken) check() error {
	if n.Token != "" && !isSecret(n.Token) {
		return badRequest("bad token: want %d to %d printable ASCII characters without blanks", minSecret, auth.MaxSecret)
	}
	if n.ExpiresIn != nil && (*n.ExpiresIn < 1 || *n.ExpiresIn > int64(maxExpires/time.Second)) {
		return badRequest("bad expires_in %d: want 1 to %d seconds", *n.ExpiresIn, maxExpires/time.Second)
	}
	if n.Name != "" {
		return badName(names.Display(n.Name))
	}
	return nil
}

func isSecret(s string) bool {
	if len(s) < minSecret || len(s) > auth.MaxSecret {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// token is the answer of putToken. Masked: the name was not stored as it was given. The secret is there only if it was made here: nobody can read it again.
type token struct {
	User      string `json:"user"`
	Name      string `json:"name"`
	Masked    bool   `json:"masked,omitempty"`
	ExpiresAt int64  `json:"expires_at,omitempty"`
	Token     string `json:"token,omitempty"`
}

func putToken(c *call) (answer, error) {
	var in newToken
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	if err := in.check(); err != nil {
		return answer{}, err
	}
	name, err := c.judged("user "+c.path["user"], in.Name)
	if err != nil {
		return answer{}, err
	}
	out := token{User: c.path["user"], Masked: name.Masked}
	secret := in.Token
	if secret == "" {
		out.Token = auth.NewSecret(tokenPrefix)
		secret = out.Token
	}
	t := store.Token{Tenant: c.tenant, User: out.User, Name: name.Text, Hash: auth.Hash(secret)}
	if in.ExpiresIn != nil {
		now, err := c.store.Now(c.ctx) // the clock that decides about expiry
		if err != nil {
			return answer{}, err
		}
		t.ExpiresAt = now.Add(time.Duration(*in.ExpiresIn) * time.Second)
		out.ExpiresAt = t.ExpiresAt.UnixMilli()
	}
	changes, err := c.unlearned(t, in.Token != "")
	if err != nil {
		return answer{}, err
	}
	if err := c.store.PutToken(c.ctx, t); err != nil {
		return answer{}, tokenError(err)
	}
	if changes {
		c.chat.Changed()
	}
	out.Name, err = c.store.UserName(c.ctx, c.tenant, out.User)
	if err != nil {
		return answer{}, err
	}
	return ok(out)
}

// judged applies the tenant's NG words to a display name that was given, and leaves one alone that was not.
func (c *call) judged(holder, name string) (chat.Name, error) {
	if name == "" {
		return chat.Name{}, nil
	}
	return c.chat.JudgeName(c.ctx, c.tenant, holder, name)
}

// unlearned reports whether a token that is put may change what processes know already. Most are new, and come one with each login
// of the game: those wake nobody.
func (c *call) unlearned(t store.Token, given bool) (bool, error) {
	name, err := c.store.UserName(c.ctx, t.Tenant, t.User)
	if err == nil && t.Name != "" && t.Name != name {
		return true, nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	if !given {
		return false, nil
	}
	_, err = c.store.LookupToken(c.ctx, t.Tenant, t.Hash)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err == nil, errors.Is(err, store.ErrExpired):
		return true, nil
	}
	return false, err
}

func tokenError(err error) error {
	switch {
	case errors.Is(err, store.ErrExists):
		return chat.Errorf(codeTokenTaken, "the token is another user's")
	case errors.Is(err, store.ErrConflict):
		return chat.Errorf(codeTokenRevoked, "the token was revoked and cannot be used again")
	case errors.Is(err, store.ErrNotFound): // the tenant was deleted meanwhile
		return keyError(chat.Errorf(chat.CodeBadKey, ""))
	}
	return err
}

func deleteToken(c *call) (answer, error) {
	n, err := c.store.RevokeTokens(c.ctx, c.tenant, c.path["user"])
	if err != nil {
		return answer{}, err
	}
	if n > 0 {
		c.chat.Changed()
	}
	return ok(struct {
		Revoked int `json:"revoked"`
	}{n})
}
