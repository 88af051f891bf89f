package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/kmsctl/kms/runtime/auth"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	tenant  = "bench"
	ngWords = 10_000
)

func tokenOf(user int) string { return "bench-token-of-user-" + strconv.Itoa(user) }

func userName(user int) string { return "u" + strconv.Itoa(user) }

// channels is a family of channels named prefix0, prefix1 and so on. A user is in the one that its number modulo count names.
type channels struct {
	prefix  string
	count   int
	kind    string
	history string
}

// unlimited are rates that no benchmark comes to.
var unlimited = map[string]int{"messages_per_second": 1e6, "channel_messages_per_second": 1e6}

// seed makes a tenant with its NG words, users with tokens, and channels with their members, as game servers and operators would
// have, only quicker: through the store itself.
func (k *kms) seed(ctx context.Context, users int, families ...channels) error {
	st, err := store.Open(ctx, "sqlite:"+filepath.Join(k.home, "kms.db"), store.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	if _, err := st.CreateTenant(ctx, store.Tenant{ID: tenant}); err != nil {
		return err
	}
	if err := st.SetTenantLimits(ctx, tenant, unlimited); err != nil {
		return err
	}
	if _, err := k.kmsctl(ctx, strings.NewReader(wordList(ngWords)), "ngword", "add", tenant, "-", "--action", "mask"); err != nil {
		return err
	}
	for _, f := range families {
		for n := range f.count {
			ch := store.Channel{Tenant: tenant, ID: f.prefix + strconv.Itoa(n), Kind: f.kind, History: f.history}
			if _, err := st.CreateChannel(ctx, ch); err != nil {
				return err
			}
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for user := range users {
		g.Go(func() error { return seedUser(ctx, st, user, families) })
	}
	return g.Wait()
}

func seedUser(ctx context.Context, st *store.Store, user int, families []channels) error {
	name := userName(user)
	if err := st.PutToken(ctx, store.Token{Tenant: tenant, User: name, Hash: auth.Hash(tokenOf(user))}); err != nil {
		return err
	}
	for _, f := range families {
		if f.kind == store.KindWorld {
			continue
		}
		if err := st.AddMember(ctx, tenant, f.prefix+strconv.Itoa(user%f.count), name); err != nil {
			return err
		}
	}
	return nil
}

// wordList is n words that look like an NG list, half Latin and half kana, the same in every run. None of them is in a text of ours.
func wordList(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	latin, kana := []rune("bcdfghjklmnpqrstvwxz"), []rune("アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワ")
	var b strings.Builder
	for i := range n {
		letters := kana
		if i%2 == 0 {
			letters = latin
		}
		for range 5 + r.IntN(5) {
			b.WriteRune(letters[r.IntN(len(letters))])
		}
		fmt.Fprintf(&b, "\n")
	}
	return b.String()
}
