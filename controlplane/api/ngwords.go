package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/ngword"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	maxNGHistory = 1000
	newest       = -1 // as a revision
)

// ngTenant is tenant that also takes the internal tenant of the base lists.
func (c *call) ngTenant() (string, error) {
	if c.r.PathValue("tenant") == store.NGBase {
		return store.NGBase, nil
	}
	return c.tenant()
}

// ngList returns the path's tenant and list; whether the list exists, its reader says.
func (c *call) ngList() (tenant, list string, err error) {
	if tenant, err = c.ngTenant(); err != nil {
		return "", "", err
	}
	list = c.r.PathValue("list")
	if names.Tenant(list) != nil {
		return "", "", &names.Error{What: "NG list", Value: list, Rule: names.TenantPattern}
	}
	return tenant, list, nil
}

// shippedNG returns a list that comes with KMS.
func shippedNG(tenant, list string) (store.NGList, bool) {
	if tenant == store.NGBase {
		for _, l := range ngword.Shipped() {
			if l.Name == list {
				l.Settings = l.Settings.WithDefaults()
				return l, true
			}
		}
	}
	return store.NGList{}, false
}

func getNGLists(c *call) (any, error) {
	tenant, err := c.ngTenant()
	if err != nil {
		return nil, err
	}
	lists, err := c.Store().NGLists(c.ctx, tenant)
	if err != nil {
		return nil, err
	}
	out := make([]NGListInfo, 0, len(lists))
	for _, l := range lists {
		info, err := c.ngInfo(l)
		if err != nil {
			return nil, err
		}
		out = append(out, info)
	}
	for _, name := range store.NGShipped {
		if l, ok := shippedNG(tenant, name); ok {
			out = append(out, shippedInfo(l))
		}
	}
	return out, nil
}

// ngInfo tells of a list, and of the change that made it what it is.
func (c *call) ngInfo(l store.NGList) (NGListInfo, error) {
	info := NGListInfo{Tenant: l.Tenant, List: l.Name, Revision: l.Revision, Count: l.Words, Settings: l.Settings}
	if l.Revision == 0 {
		return info, nil
	}
	last, err := c.Store().NGLatest(c.ctx, l.Tenant, l.Name, 1)
	if err == nil && len(last) > 0 && last[0].Revision == l.Revision {
		info.ChangedAt, info.ChangedBy, info.Message = last[0].At, last[0].Author, last[0].Message
	}
	return info, err
}

func shippedInfo(l store.NGList) NGListInfo {
	return NGListInfo{Tenant: l.Tenant, List: l.Name, Count: l.Words, Shipped: true, Settings: l.Settings}
}

func getNGList(c *call) (any, error) {
	tenant, list, err := c.ngList()
	if err != nil {
		return nil, err
	}
	revision, err := c.queryInt("revision", newest)
	if err != nil {
		return nil, err
	}
	if l, ok := shippedNG(tenant, list); ok && revision <= 0 {
		return NGList{shippedInfo(l), ngWords(l.Entries)}, nil
	}
	l, err := c.readNG(tenant, list, revision)
	if err != nil {
		return nil, err
	}
	info, err := c.ngInfo(l)
	return NGList{info, ngWords(l.Entries)}, err
}

// readNG reads a list as it was at a revision, or the newest.
func (c *call) readNG(tenant, list string, revision int64) (store.NGList, error) {
	if revision == newest {
		return c.Store().NGRead(c.ctx, tenant, list)
	}
	return c.Store().NGReadAt(c.ctx, tenant, list, revision)
}

func getNGHistory(c *call) (any, error) {
	tenant, list, err := c.ngList()
	if err != nil {
		return nil, err
	}
	limit, err := c.queryInt("limit", maxNGHistory)
	if err != nil {
		return nil, err
	}
	if err := c.knownNG(tenant, list); err != nil {
		return nil, err
	}
	revisions, err := c.Store().NGLatest(c.ctx, tenant, list, int(min(limit, maxNGHistory)))
	out := make([]NGRevision, 0, len(revisions))
	for _, r := range revisions {
		out = append(out, NGRevision{Revision: r.Revision, At: r.At, Author: r.Author, Message: r.Message, Added: r.Added, Removed: r.Removed, Settings: r.Settings})
	}
	return out, err
}

// knownNG tells a list without a history from a mistyped one.
func (c *call) knownNG(tenant, list string) error {
	if _, ok := shippedNG(tenant, list); ok {
		return nil
	}
	lists, err := c.Store().NGLists(c.ctx, tenant)
	if err == nil && !slices.ContainsFunc(lists, func(l store.NGList) bool { return l.Name == list }) {
		err = fmt.Errorf("NG list %q of tenant %q: %w", list, tenant, store.ErrNotFound)
	}
	return err
}

func diffNGList(c *call) (any, error) {
	tenant, list, err := c.ngList()
	if err != nil {
		return nil, err
	}
	var sides [2]store.NGList
	for i, name := range []string{"from", "to"} {
		revision, err := c.queryInt(name, newest)
		if err != nil {
			return nil, err
		}
		if sides[i], err = c.readNG(tenant, list, revision); err != nil {
			return nil, err
		}
	}
	return ngDiff(sides[0], sides[1]), nil
}

// ngDiff compares two lists whose entries are in the order of words.
func ngDiff(from, to store.NGList) NGDiff {
	d := NGDiff{Tenant: to.Tenant, List: to.Name, From: from.Revision, To: to.Revision, Added: []NGWord{}, Removed: []NGWord{}}
	a, b := from.Entries, to.Entries
	for len(a) > 0 || len(b) > 0 {
		switch before := compareHeads(a, b); {
		case before < 0:
			d.Removed, a = append(d.Removed, ngWord(a[0])), a[1:]
		case before > 0:
			d.Added, b = append(d.Added, ngWord(b[0])), b[1:]
		default:
			if a[0] != b[0] {
				d.Removed, d.Added = append(d.Removed, ngWord(a[0])), append(d.Added, ngWord(b[0]))
			}
			a, b = a[1:], b[1:]
		}
	}
	if !sameSettings(from.Settings, to.Settings) {
		d.SettingsBefore, d.SettingsAfter = &from.Settings, &to.Settings
	}
	return d
}

func compareHeads(a, b []store.NGEntry) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return cmp.Compare(a[0].Word, b[0].Word)
}

func sameSettings(a, b NGSettings) bool {
	return slices.Equal(a.Scopes, b.Scopes) && slices.Equal(a.Include, b.Include) && a.Spacing == b.Spacing && a.LookAlikes == b.LookAlikes
}

func ngWord(e store.NGEntry) NGWord {
	return NGWord{Word: e.Word, Kind: e.Kind, Action: e.Action, Mode: e.Mode}
}

func ngWords(entries []store.NGEntry) []NGWord {
	out := make([]NGWord, 0, len(entries))
	for _, e := range entries {
		out = append(out, ngWord(e))
	}
	return out
}

// ngRefused makes what the store refuses an answer that says what to do.
func ngRefused(err error) error {
	if errors.Is(err, store.ErrConflict) {
		told := controlplane.Errorf(controlplane.Failed, "%v", err).WithHint("nothing was changed; see what the other change was (kmsctl ngword history), then run the command again")
		return &statusError{http.StatusConflict, told}
	}
	return err
}

func oneOf(what, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return badRequest("bad %s %q: want one of %s", what, value, strings.TrimPrefix(strings.Join(allowed, ", "), ", "))
}
