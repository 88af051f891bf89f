package api_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/controlplane/api"
	"github.com/kmsctl/kms/controlplane/api/apitest"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/testkit"
)

// onBothStores runs a test against the API over SQLite and over MySQL, with the tenant demo.
func onBothStores(t *testing.T, test func(t *testing.T, r *rig)) {
	run := func(name string, open func(t *testing.T) *rig) {
		t.Run(name, func(t *testing.T) {
			r := open(t)
			if _, err := r.client.AddTenant(t.Context(), api.NewTenant{ID: "demo"}); err != nil {
				t.Fatal(err)
			}
			test(t, r)
		})
	}
	run("sqlite", testAPI)
	run("mysql", func(t *testing.T) *rig {
		st, err := store.Open(t.Context(), testkit.MySQL(t), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		if err := st.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := &rig{Backend: &apitest.Backend{DB: st}, socket: filepath.Join(testkit.ShortDir(t), "kms.sock")}
		if r.stop, err = apitest.Serve(r.socket, r.Backend); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.stop)
		r.client = api.Dial(r.socket)
		t.Cleanup(r.client.Close)
		return r
	})
}

func mustNG[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func forbid(words ...string) (out []api.NGWord) {
	for _, w := range words {
		out = append(out, api.NGWord{Word: w})
	}
	return out
}

// kindOf is the kind and the HTTP status's meaning of an error.
func kindOf(err error) controlplane.Kind {
	if err == nil {
		return "none"
	}
	return controlplane.AsError(err).Kind
}

func TestNGLists_changeHistoryDiffRollback(t *testing.T) {
	onBothStores(t, func(t *testing.T, r *rig) {
		ctx, k := t.Context(), r.client
		changed, diff := mustNG[*api.NGChanged](t), mustNG[*api.NGDiff](t)
		k.Message = "why"
		if l := mustNG[*api.NGList](t)(k.NGList(ctx, "demo", "default", -1)); l.Revision != 0 || l.Words == nil || len(l.Words) != 0 || !slices.Equal(l.Settings.Include, store.NGShipped) {
			t.Errorf("untouched list %+v", l)
		}
		one := changed(k.ChangeNGList(ctx, "demo", "default", api.NGChange{Add: append(forbid("b", "a"), api.NGWord{Word: "ok", Kind: "allow"})}))
		if *one != (api.NGChanged{Tenant: "demo", List: "default", Revision: 1, Added: 3}) {
			t.Errorf("first change %+v", one)
		}
		two := changed(k.ChangeNGList(ctx, "demo", "default", api.NGChange{Add: []api.NGWord{{Word: "a", Action: "mask"}, {Word: "c"}}, Remove: []string{"b"}}))
		if *two != (api.NGChanged{Tenant: "demo", List: "default", Revision: 2, Added: 1, Changed: 1, Removed: 1}) {
			t.Errorf("second change %+v", two)
		}
		changed(k.ChangeNGList(ctx, "demo", "default", api.NGChange{Settings: &api.NGSettings{Scopes: []string{"guild"}, Include: []string{}}}))
		d := diff(k.DiffNGList(ctx, "demo", "default", 1, -1))
		want := &api.NGDiff{Tenant: "demo", List: "default", From: 1, To: 3,
			Added:   []api.NGWord{{Word: "a", Kind: "word", Action: "mask", Mode: "auto"}, {Word: "c", Kind: "word", Action: "reject", Mode: "auto"}},
			Removed: []api.NGWord{{Word: "a", Kind: "word", Action: "reject", Mode: "auto"}, {Word: "b", Kind: "word", Action: "reject", Mode: "auto"}},
		}
		before, after := d.SettingsBefore, d.SettingsAfter
		if d.SettingsBefore, d.SettingsAfter = nil, nil; !reflect.DeepEqual(d, want) || before == nil || !slices.Equal(after.Scopes, []string{"guild"}) {
			t.Errorf("diff %+v, %+v, %+v", d, before, after)
		}
		history := mustNG[[]api.NGRevision](t)(k.NGHistory(ctx, "demo", "default", 2))
		if len(history) != 2 || history[0].Revision != 3 || history[0].Settings == nil || history[1].Added != 2 || history[1].Removed != 2 || history[1].Message != "why" || history[1].Author == "" {
			t.Errorf("history %+v", history)
		}
		back := changed(k.RollbackNGList(ctx, "demo", "default", api.NGRollback{Revision: 1}))
		if back.Revision != 4 || back.Settings == nil {
			t.Errorf("rollback %+v", back)
		}
		if d := diff(k.DiffNGList(ctx, "demo", "default", 1, 4)); len(d.Added)+len(d.Removed) > 0 || d.SettingsAfter != nil {
			t.Errorf("rolled back, and yet %+v", d)
		}
		old := mustNG[*api.NGList](t)(k.NGList(ctx, "demo", "default", 2))
		if old.Revision != 2 || len(old.Words) != 3 || !old.ChangedAt.IsZero() {
			t.Errorf("revision 2 is %+v", old)
		}
	})
}

func TestNGLists_twoAdminsDoNotUndoEachOther(t *testing.T) {
	onBothStores(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		var wg sync.WaitGroup
		const admins = 4
		for n := range admins {
			wg.Go(func() { // as an import does: read, apply on what was read, again when refused
				for {
					change := api.NGChange{Add: forbid(fmt.Sprint("word", n))}
					plan, err := r.client.PlanNGList(ctx, "demo", "default", change)
					if err != nil {
						t.Error(err)
						return
					}
					change.Base = &plan.From
					_, err = r.client.ChangeNGList(ctx, "demo", "default", change)
					if err == nil {
						return
					}
					if e := controlplane.AsError(err); e.Kind != controlplane.Failed || !strings.Contains(e.Message, "changed in the meantime") || e.Hint == "" {
						t.Errorf("refused with %+v", e)
						return
					}
				}
			})
		}
		wg.Wait()
		if l := mustNG[*api.NGList](t)(r.client.NGList(ctx, "demo", "default", -1)); len(l.Words) != admins || l.Revision != admins {
			t.Errorf("%d words at revision %d", len(l.Words), l.Revision)
		}
		status, _, _ := r.raw(t, "PATCH", "/v1/tenants/demo/nglists/default", `{"base":1,"add":[{"word":"x"}]}`)
		if status != 409 {
			t.Errorf("status %d", status)
		}
	})
}

func TestNGLists_basesAndShippedOnes(t *testing.T) {
	onBothStores(t, func(t *testing.T, r *rig) {
		ctx, k := t.Context(), r.client
		none := &api.NGSettings{Include: []string{}}
		mustNG[*api.NGChanged](t)(k.ChangeNGList(ctx, "_base", "swears", api.NGChange{Add: forbid("darn"), Settings: none}))
		lists := mustNG[[]api.NGListInfo](t)(k.NGLists(ctx, "_base"))
		if len(lists) != 1+len(store.NGShipped) || lists[0].List != "swears" || !lists[1].Shipped || lists[1].Count == 0 {
			t.Errorf("base lists %+v", lists)
		}
		if l := mustNG[*api.NGList](t)(k.NGList(ctx, "_base", store.NGShipped[0], -1)); len(l.Words) != l.Count || l.Words[0].Kind != "allow" {
			t.Errorf("shipped list %+v", l.NGListInfo)
		}
		mustNG[*api.NGChanged](t)(k.ChangeNGList(ctx, "demo", "names", api.NGChange{Add: forbid("admin"), Settings: &api.NGSettings{Scopes: []string{"name"}, Include: []string{"swears"}}}))
		verdicts := func(scope string) string {
			var out []string
			for _, v := range mustNG[[]api.NGVerdict](t)(k.TestNGLists(ctx, "demo", api.NGTexts{Scope: scope, Texts: []string{"an admin", "a darn thing"}})) {
				for _, h := range v.Hits {
					out = append(out, fmt.Sprintf("%s/%s %d-%d %s", h.List, h.Word, h.Start, h.End, h.Found))
				}
			}
			return strings.Join(out, ", ")
		}
		if got := verdicts("name"); got != "names/admin 3-8 admin, _base/swears/darn 2-6 darn" {
			t.Errorf("names: %s", got)
		}
		if got := verdicts(""); got != "" {
			t.Errorf("world: %s", got)
		}
		settings := func(g api.NGSettings) api.NGChange { return api.NGChange{Settings: &g} }
		var old int64 = 7
		for what, c := range map[string]struct {
			err  error
			want controlplane.Kind
		}{
			"shipped":           {second(k.ChangeNGList(ctx, "_base", store.NGShipped[0], api.NGChange{Add: forbid("x")})), controlplane.InUse},
			"shipped delete":    {k.DeleteNGList(ctx, "_base", store.NGShipped[0], -1), controlplane.InUse},
			"included":          {k.DeleteNGList(ctx, "_base", "swears", -1), controlplane.InUse},
			"default":           {k.DeleteNGList(ctx, "demo", "default", -1), controlplane.InUse},
			"old base":          {k.DeleteNGList(ctx, "demo", "names", old), controlplane.Failed},
			"base includes":     {second(k.ChangeNGList(ctx, "_base", "swears", settings(api.NGSettings{Include: []string{"kms-allow-en"}}))), controlplane.Usage},
			"unknown include":   {second(k.ChangeNGList(ctx, "demo", "names", settings(api.NGSettings{Include: []string{"nothing"}}))), controlplane.NotFound},
			"bad setting":       {second(k.ChangeNGList(ctx, "demo", "names", settings(api.NGSettings{Spacing: "wide"}))), controlplane.Usage},
			"unknown list":      {second(k.ChangeNGList(ctx, "demo", "other", api.NGChange{Add: forbid("x")})), controlplane.NotFound},
			"unknown tenant":    {second(k.ChangeNGList(ctx, "nobody", "default", api.NGChange{Add: forbid("x")})), controlplane.NotFound},
			"internal tenant":   {second(k.ChangeNGList(ctx, "_probe", "default", api.NGChange{Add: forbid("x")})), controlplane.Usage},
			"bad name":          {second(k.ChangeNGList(ctx, "demo", "A", api.NGChange{Add: forbid("x")})), controlplane.Usage},
			"nothing":           {second(k.ChangeNGList(ctx, "demo", "default", api.NGChange{})), controlplane.Usage},
			"replace and add":   {second(k.ChangeNGList(ctx, "demo", "default", api.NGChange{Add: forbid("x"), Replace: &[]api.NGWord{}})), controlplane.Usage},
			"bad word":          {second(k.ChangeNGList(ctx, "demo", "default", api.NGChange{Add: forbid("a\x1b[2J")})), controlplane.Usage},
			"future revision":   {second(k.DiffNGList(ctx, "demo", "names", 1, 9)), controlplane.NotFound},
			"history of none":   {second(k.NGHistory(ctx, "demo", "other", 5)), controlplane.NotFound},
			"rollback too far":  {second(k.RollbackNGList(ctx, "demo", "names", api.NGRollback{Revision: 9})), controlplane.NotFound},
			"no texts":          {second(k.TestNGLists(ctx, "demo", api.NGTexts{})), controlplane.Usage},
			"bad scope":         {second(k.TestNGLists(ctx, "demo", api.NGTexts{Scope: "party", Texts: []string{"x"}})), controlplane.Usage},
			"plan unknown list": {second(k.PlanNGList(ctx, "demo", "other", api.NGChange{Add: forbid("x")})), controlplane.NotFound},
		} {
			if got := kindOf(c.err); got != c.want {
				t.Errorf("%s: %s (%v), want %s", what, got, c.err, c.want)
			}
		}
		if err := k.DeleteNGList(ctx, "demo", "names", 1); err != nil {
			t.Error(err)
		}
		if err := k.DeleteNGList(ctx, "_base", "swears", -1); err != nil {
			t.Error(err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// TestNGPlan_findings tries words on a log, on other lists and on each other.
func TestNGPlan_findings(t *testing.T) {
	onBothStores(t, func(t *testing.T, r *rig) {
		ctx, k := t.Context(), r.client
		speak(t, r.DB, "たまに遊ぼう", "また たまに ね", "all fine", "ばかり")
		mustNG[*api.NGChanged](t)(k.ChangeNGList(ctx, "demo", "default", api.NGChange{Add: []api.NGWord{{Word: "死ね"}, {Word: "ばか"}, {Word: "黙れよ", Kind: "allow"}}}))
		plan := mustNG[*api.NGPlan](t)(k.PlanNGList(ctx, "demo", "default", api.NGChange{Add: []api.NGWord{
			{Word: "たま"}, {Word: "バカ"}, {Word: "死ねよ"}, {Word: "死ねこ", Action: "mask"}, {Word: "黙れよ!"}, {Word: "\u200b"},
		}}))
		if plan.From != 1 || plan.To != 2 || len(plan.Added) != 6 || len(plan.Removed) != 0 || plan.Sampled != 4 {
			t.Errorf("plan %+v", plan)
		}
		var got []string
		for _, f := range plan.Findings {
			if f.Kind != "ordinary" { // those depend on what the shipped lists hold
				if f.Kind == "allowed" {
					f.Other = "" // however the entry is told
				}
				got = append(got, strings.TrimSpace(fmt.Sprintln(f.Kind, f.Word, f.Lines, f.Example, f.Other)))
			}
		}
		slices.Sort(got)
		want := []string{"allowed 黙れよ! 0", "empty \u200b 0", "hidden 死ねこ 0  死ね", "hidden 死ねよ 0  死ね", "log たま 2 たまに遊ぼう", "same バカ 0  ばか", "same 黙れよ! 0  黙れよ"}
		if !slices.Equal(got, want) {
			t.Errorf("findings\n%q, want\n%q", got, want)
		}
		if l := mustNG[*api.NGList](t)(k.NGList(ctx, "demo", "default", -1)); l.Revision != 1 {
			t.Errorf("a plan made revision %d", l.Revision)
		}
		ordinary := func(include []string) (spared []bool) {
			plan := mustNG[*api.NGPlan](t)(k.PlanNGList(ctx, "demo", "default", api.NGChange{
				Add: []api.NGWord{{Word: "cunt", Mode: "substring"}}, Settings: &api.NGSettings{Include: include}}))
			for _, f := range plan.Findings {
				if f.Kind == "ordinary" && f.List == "_base/kms-allow-en" && f.Lines > 0 && f.Example != "" {
					spared = append(spared, f.Spared)
				}
			}
			return spared
		}
		if with, without := ordinary(nil), ordinary([]string{}); !slices.Equal(with, []bool{true}) || !slices.Equal(without, []bool{false}) {
			t.Errorf("ordinary words: spared %v with the shipped lists, %v without", with, without)
		}
		plan = mustNG[*api.NGPlan](t)(k.PlanNGList(ctx, "demo", "default", api.NGChange{Add: []api.NGWord{{Word: "死ね!", Kind: "allow"}}}))
		if !slices.ContainsFunc(plan.Findings, func(f api.NGFinding) bool { return f.Kind == "allowed" && f.Word == "死ね" }) {
			t.Errorf("an allow entry that undoes a word: %+v", plan.Findings)
		}
		var hidden []api.NGWord
		for i := range 600 {
			hidden = append(hidden, api.NGWord{Word: fmt.Sprint("死ね", i)})
		}
		plan = mustNG[*api.NGPlan](t)(k.PlanNGList(ctx, "demo", "default", api.NGChange{Add: append(hidden, api.NGWord{Word: "たま"})}))
		byKind := map[string]int{}
		for _, f := range plan.Findings {
			byKind[f.Kind]++
		}
		if byKind["hidden"] != 500 || byKind["log"] != 1 || plan.LeftOut == 0 {
			t.Errorf("findings %v, %d left out", byKind, plan.LeftOut)
		}
		allowed := mustNG[*api.NGPlan](t)(k.PlanNGList(ctx, "_base", "new", api.NGChange{Add: forbid("darn"), Settings: &api.NGSettings{Include: []string{}}}))
		if allowed.Sampled != 0 || allowed.To != 1 {
			t.Errorf("plan of a base list %+v", allowed)
		}
	})
}

// speak puts lines of a user into a channel's log.
func speak(t *testing.T, st *store.Store, lines ...string) {
	t.Helper()
	ch, err := st.CreateChannel(t.Context(), store.Channel{Tenant: "demo", ID: "lobby", Kind: store.KindWorld})
	if err != nil {
		t.Fatal(err)
	}
	l := chatlog.Open(st, chatlog.Options{})
	defer l.Close()
	answers := make(chan error, len(lines))
	for _, text := range lines {
		e := &envelope.Envelope{Kind: envelope.Say, Tenant: "demo", Channel: ch.ID, ID: envelope.NewID(time.Now()), User: "aki", Name: "あき", Text: text}
		l.Append(ch.PK, e, func(_ chatlog.Receipt, err error) { answers <- err })
	}
	for range lines {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
}

// TestNGLists_hundredThousandWords sends a list of the size that the project promises, and reads it back.
func TestNGLists_hundredThousandWords(t *testing.T) {
	r := testAPI(t)
	ctx := t.Context()
	mustNG[*api.Tenant](t)(r.client.AddTenant(ctx, api.NewTenant{ID: "demo"}))
	words := make([]api.NGWord, 100_000)
	for i := range words {
		words[i] = api.NGWord{Word: strings.Repeat("亜", 94) + fmt.Sprintf("%06d", i), Kind: "word", Action: "reject", Mode: "substring"}
	}
	if done, err := r.client.ChangeNGList(ctx, "demo", "default", api.NGChange{Replace: &words}); err != nil || done.Added != len(words) {
		t.Fatalf("%+v, %v", done, err)
	}
	if l, err := r.client.NGList(ctx, "demo", "default", -1); err != nil || len(l.Words) != len(words) {
		t.Errorf("%v", err)
	}
}
