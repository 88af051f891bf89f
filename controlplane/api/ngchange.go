package api

import (
	"errors"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/store"
)

func patchNGList(c *call) (any, error) {
	edit, err := c.ngEdit()
	if err != nil {
		return nil, err
	}
	done, err := c.Store().NGChange(c.ctx, edit)
	if err != nil {
		return nil, ngRefused(err)
	}
	return ngChanged(edit, done), nil
}

// ngEdit reads a change, and checks it before the store does, to tell mistakes as the caller's.
func (c *call) ngEdit() (store.NGEdit, error) {
	tenant, list, err := c.changeable()
	if err != nil {
		return store.NGEdit{}, err
	}
	var change NGChange
	if err := c.decode(&change, maxNGBody); err != nil {
		return store.NGEdit{}, err
	}
	e := store.NGEdit{Tenant: tenant, List: list, Base: newest, Author: c.who, Message: c.message, Remove: change.Remove, Settings: change.Settings}
	if change.Base != nil {
		e.Base = *change.Base
	}
	if e.Add, err = ngEntries(change.Add); err != nil {
		return e, err
	}
	if change.Replace != nil {
		entries, err := ngEntries(*change.Replace)
		if err != nil {
			return e, err
		}
		e.Replace = &entries
	}
	return e, checkNGChange(tenant, change)
}

func checkNGChange(tenant string, change NGChange) error {
	if change.Base != nil && *change.Base < 0 {
		return badRequest("bad base %d: want the revision that you saw", *change.Base)
	}
	if change.Replace != nil && len(change.Add)+len(change.Remove) > 0 {
		return badRequest("cannot replace all words and add or remove some")
	}
	if change.Replace == nil && change.Settings == nil && len(change.Add)+len(change.Remove) == 0 {
		return badRequest("cannot change nothing: want words to add or remove, or settings")
	}
	if change.Settings == nil {
		return nil
	}
	if tenant == store.NGBase && len(change.Settings.Include) > 0 {
		return badRequest("cannot include lists in a base list")
	}
	if err := change.Settings.Check(); err != nil {
		return badRequest("%v", err)
	}
	return nil
}

// changeable is ngList of a list that does not come with KMS.
func (c *call) changeable() (tenant, list string, err error) {
	tenant, list, err = c.ngList()
	if err == nil {
		if _, shipped := shippedNG(tenant, list); shipped {
			err = controlplane.Errorf(controlplane.InUse, "cannot change NG list %q: it comes with KMS", list).
				WithHint("a list that does not include it: kmsctl ngword set TENANT --include NAME,...")
		}
	}
	return tenant, list, err
}

func ngEntries(words []NGWord) ([]store.NGEntry, error) {
	entries := make([]store.NGEntry, 0, len(words))
	for _, w := range words {
		e := store.NGEntry{Word: w.Word, Kind: w.Kind, Action: w.Action, Mode: w.Mode}
		if err := e.Check(); err != nil {
			return nil, badRequest("%v", err)
		}
		entries = append(entries, e.WithDefaults())
	}
	return entries, nil
}

// ngChanged counts an entry that stands in both Added and Removed as changed.
func ngChanged(e store.NGEdit, done store.NGChanged) NGChanged {
	removed := make(map[string]bool, len(done.Removed))
	for _, entry := range done.Removed {
		removed[entry.Word] = true
	}
	out := NGChanged{Tenant: e.Tenant, List: e.List, Revision: done.Revision, Settings: done.Settings}
	for _, entry := range done.Added {
		if removed[entry.Word] {
			out.Changed++
		}
	}
	out.Added, out.Removed = len(done.Added)-out.Changed, len(done.Removed)-out.Changed
	return out
}

func rollbackNGList(c *call) (any, error) {
	tenant, list, err := c.changeable()
	if err != nil {
		return nil, err
	}
	var to NGRollback
	if err := c.decode(&to, maxBody); err != nil {
		return nil, err
	}
	if to.Revision < 0 || to.Base != nil && *to.Base < 0 {
		return nil, badRequest("bad revision: want a number of 0 or more")
	}
	edit := store.NGEdit{Tenant: tenant, List: list, Base: newest, Author: c.who, Message: c.message}
	if to.Base != nil {
		edit.Base = *to.Base
	}
	done, err := c.Store().NGRollback(c.ctx, edit, to.Revision)
	if err != nil {
		return nil, ngRefused(err)
	}
	return ngChanged(edit, done), nil
}

func deleteNGList(c *call) (any, error) {
	tenant, list, err := c.changeable()
	if err != nil {
		return nil, err
	}
	base, err := c.queryInt("base", newest)
	if err != nil {
		return nil, err
	}
	return nil, ngRefused(c.Store().NGDeleteList(c.ctx, tenant, list, base))
}

func planNGList(c *call) (any, error) {
	edit, err := c.ngEdit()
	if err != nil {
		return nil, err
	}
	edit.DryRun = true
	before, done, err := c.tryNG(edit)
	for tries := 1; edit.Base == newest && errors.Is(err, store.ErrConflict) && tries < 10; tries++ {
		before, done, err = c.tryNG(edit) // somebody changed the list in between; the plan is about what it is now
	}
	if err != nil {
		return nil, ngRefused(err)
	}
	plan := NGPlan{NGDiff: NGDiff{Tenant: edit.Tenant, List: edit.List, From: before.Revision, To: done.Revision,
		Added: ngWords(done.Added), Removed: ngWords(done.Removed)}, Findings: []NGFinding{}}
	after := afterNG(before, done)
	if done.Settings != nil {
		plan.SettingsBefore, plan.SettingsAfter = &before.Settings, done.Settings
	}
	return plan, c.findNG(&plan, after, done.Added)
}

// tryNG returns a list and what an edit would change of just that revision.
func (c *call) tryNG(edit store.NGEdit) (before store.NGList, done store.NGChanged, err error) {
	before, err = c.Store().NGRead(c.ctx, edit.Tenant, edit.List)
	if errors.Is(err, store.ErrNotFound) && edit.Settings != nil {
		before, err = store.NGList{Tenant: edit.Tenant, Name: edit.List, Settings: NGSettings{}.WithDefaults()}, nil
	}
	if err != nil {
		return before, done, err
	}
	if edit.Base == newest {
		edit.Base = before.Revision
	}
	done, err = c.Store().NGChange(c.ctx, edit)
	return before, done, err
}

// afterNG is a list once a change has been made.
func afterNG(before store.NGList, done store.NGChanged) store.NGList {
	gone := make(map[string]bool, len(done.Removed))
	for _, e := range done.Removed {
		gone[e.Word] = true
	}
	after := before
	after.Entries = nil
	for _, e := range before.Entries {
		if !gone[e.Word] {
			after.Entries = append(after.Entries, e)
		}
	}
	after.Entries = append(after.Entries, done.Added...)
	after.Words = len(after.Entries)
	if done.Settings != nil {
		after.Settings = *done.Settings
	}
	return after
}
