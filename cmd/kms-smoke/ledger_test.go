package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
)

// TestLedger_nothingIsLost has users of both versions chat through nginx while every part of a KMS is killed, frozen, restarted and
// released at random from a seed, and holds what they wrote down against the log. SEED chooses another schedule than the fixed
// one; LONG=1 runs 30 minutes, over several seeds.
func TestLedger_nothingIsLost(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"sqlite", "mysql"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for _, seed := range seeds() {
				t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
					runLedger(t, ledgerOptions{store: kind, seed: seed, within: ledgerTime()})
				})
			}
		})
	}
}

const (
	fixedSeed  = 1
	shortTime  = 35 * time.Second
	longTime   = 6 * time.Minute // times five seeds
	quietAfter = 60 * time.Second
)

func ledgerTime() time.Duration {
	if os.Getenv("LONG") != "" {
		return longTime
	}
	return shortTime
}

// seeds is SEED, the fixed one, or in a long run five that nobody has tried.
func seeds() []uint64 {
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		return []uint64{n}
	}
	if os.Getenv("LONG") == "" {
		return []uint64{fixedSeed}
	}
	var all []uint64
	for range 5 {
		all = append(all, rand.Uint64N(1_000_000))
	}
	return all
}

// ledgerOptions are a run's. Without steps the schedule is the seed's.
type ledgerOptions struct {
	store  string // sqlite or mysql
	seed   uint64
	within time.Duration
	steps  []step
	builds string
	faulty bool // violations are expected
	calm   bool // nothing is frozen: what was answered never comes again

	afterwards func(*testing.T, context.Context, *ledgerRun, map[string][]logRow) // nil: nothing more
}

// ledgerRun is a KMS with its users.
type ledgerRun struct {
	*story
	*book
	chaos     *chaos
	failpoint string // file that names where the control plane is to die

	talkers map[string]talker
	keepers []*keeper
	posts   []*gameServer
	rand    *rand.Rand
}

// runLedger returns the violations, and fails the test for them unless they are expected.
func runLedger(t *testing.T, o ledgerOptions) []violation {
	began := time.Now()
	ctx := testContext(t, o.within+4*time.Minute)
	run := newLedgerRun(t, ctx, o)
	steps := o.steps
	if steps == nil {
		steps = schedule(o.seed, o.within, deck(o.store == "mysql"))
	}
	t.Logf("seed %d, %d steps, up after %s", o.seed, len(steps), time.Since(began).Round(time.Millisecond))
	run.live(ctx, o, steps)
	patience := quietAfter
	if o.faulty {
		patience = 8 * time.Second
	}
	quiet := run.calm(t, ctx, patience)
	run.part()

	log, err := readLog(ctx, run.storeURL(), ledgerChannels)
	must(t, err)
	run.sum(t, log, quiet)
	wrong := run.judge(t, o, log)
	if o.afterwards != nil {
		o.afterwards(t, ctx, run, log)
	}
	return wrong
}

// judge holds what everybody wrote down against the log.
func (r *ledgerRun) judge(t *testing.T, o ledgerOptions, log map[string][]logRow) []violation {
	var places []*place
	for _, k := range r.keepers {
		places = append(places, k.processed()...)
	}
	settle := settleAccounts
	if r.restored != nil {
		settle = settleRestore
	}
	a := settle(r.book, log, places)
	slices.SortStableFunc(a.wrong, func(x, y violation) int { return x.at.Compare(y.at) })
	if len(a.wrong) > 0 && !o.faulty {
		t.Errorf("seed %d: %d violations; the first ones:", o.seed, len(a.wrong))
		for _, v := range a.wrong[:min(len(a.wrong), 4)] {
			t.Error(a.tell(v))
		}
		r.keepLogs(t)
	}
	return a.wrong
}

// The channels of a run and who is in them, by the number of the user.
var ledgerChannels = []string{"lobby", "plaza", "guild-1", "guild-2", "direct-1", unlogged}

func channelsOf(i int) []string {
	in := []string{"lobby"}
	for n, channel := range []string{unlogged, "plaza", "guild-1", "guild-2"} {
		if i%(n+1) == 0 {
			in = append(in, channel)
		}
	}
	if i == 1 || i == 2 {
		in = append(in, "direct-1")
	}
	return in
}

const (
	keepersPerRun  = 12
	speakersPerRun = 8
)

func newLedgerRun(t *testing.T, ctx context.Context, o ledgerOptions) *ledgerRun {
	t.Helper()
	failpoint := filepath.Join(t.TempDir(), "failpoint")
	opts := options{ircd: "inspircd", builds: o.builds, env: []string{"KMS_PURGE_EVERY=1s", "KMS_FAILPOINT=" + failpoint}}
	var db *mariadb
	if o.store == "mysql" {
		db = startMariaDB(t)
		opts.store = db.url
	}
	run := &ledgerRun{
		story: &story{rig: testRig(t, opts), out: &report{}, progress: testLog{t}}, book: newBook(), failpoint: failpoint,
		talkers: map[string]talker{}, rand: rand.New(rand.NewPCG(o.seed, 1)),
	}
	must(t, run.start(ctx, "up"))
	_, err := run.awaitHealthy(ctx)
	must(t, err)
	run.chaos = &chaos{rig: run.rig, book: run.book, mysql: db, other: map[string]string{}, next: map[string]bool{}}
	for _, version := range []string{"1.0", "2.0"} {
		run.chaos.other[version], err = run.anotherBuild("kms-" + version)
		must(t, err)
	}
	run.bare = run.plain()
	run.front, err = run.secure()
	must(t, err)
	t.Cleanup(run.part)
	if !o.faulty { // a faulty build may well not pass its gate
		must(t, run.chaos.release(ctx, step{what: "deploy", victim: "2.0"})) // something to roll back to
	}
	must(t, run.cast(ctx))
	run.chaos.sleeper = run.keepers[1] // another device of user 0
	if !o.calm {
		run.chaos.agedAfter = agedAfter
	}
	return run
}

// cast makes the tenant with its channels, users and members, and has everybody connect.
func (r *ledgerRun) cast(ctx context.Context) error {
	if _, err := r.must(ctx, nil, "tenant", "add", tenant); err != nil {
		return err
	}
	if _, err := r.must(ctx, nil, "tenant", "set", tenant, "--keep", keepFor.String()); err != nil {
		return err
	}
	var key struct {
		Secret string `json:"secret"`
	}
	if _, err := r.must(ctx, &key, "key", "add", tenant); err != nil {
		return err
	}
	r.game = &gameServer{front: r.front, version: "2.0", tenant: tenant, key: key.Secret}
	r.posts = []*gameServer{r.game, {front: r.bare, version: "1.0", tenant: tenant, key: key.Secret}}
	for _, channel := range ledgerChannels {
		kind, _, narrow := strings.Cut(channel, "-")
		if !narrow {
			kind = "world"
		}
		made := map[string]any{"kind": kind}
		if channel == unlogged {
			made["history"] = "none"
		}
		if err := r.game.call(ctx, "PUT", "channels/"+channel, made, nil); err != nil {
			return err
		}
	}
	for i := range keepersPerRun + speakersPerRun {
		if err := r.enter(ctx, i); err != nil {
			return err
		}
	}
	for _, c := range r.talkers {
		c.begin()
	}
	return nil
}

// enter makes user i: the first ones on 2.0, the others on 1.0. User 0 is on two devices, and users of the last number of
// each version come and go in guild-1.
func (r *ledgerRun) enter(ctx context.Context, i int) error {
	version, n, comes := "2.0", i, i == keepersPerRun-1
	if i >= keepersPerRun {
		version, n, comes = "1.0", i-keepersPerRun, i == keepersPerRun+speakersPerRun-1
	}
	id := fmt.Sprintf("user-%d", i)
	token, err := r.game.token(ctx, id, "利用者"+strconv.Itoa(i))
	if err != nil {
		return err
	}
	in := channelsOf(n)
	if comes {
		in = []string{"lobby", "guild-1"}
	}
	for _, channel := range in {
		if strings.Contains(channel, "-") {
			if err := r.game.call(ctx, "PUT", "channels/"+channel+"/members/"+id, nil, nil); err != nil {
				return err
			}
		}
	}
	u := user{front: []*front{r.front, r.bare}[i%2], version: version, tenant: tenant, id: id, token: token}
	if version == "1.0" {
		c := newSpeaker(u, r.book, id, in)
		c.comes = comes
		r.talkers[id] = c
		return nil
	}
	devices := []string{id}
	if i == 0 {
		devices = append(devices, id+" second device")
	}
	for _, name := range devices {
		c := newKeeper(u, r.book, name, in)
		c.comes = comes
		r.talkers[name] = c
		r.keepers = append(r.keepers, c)
	}
	return nil
}

// live has everybody talk, post and come and go while the schedule is carried out.
func (r *ledgerRun) live(ctx context.Context, o ledgerOptions, steps []step) {
	ctx, stop := context.WithTimeout(ctx, o.within+time.Minute)
	defer stop()
	talking, silence := context.WithCancel(ctx)
	defer silence()
	var work sync.WaitGroup
	names := sortedKeys(r.talkers)
	for i, name := range names {
		draw := rand.New(rand.NewPCG(o.seed, uint64(100+i)))
		work.Go(func() { keepTalking(talking, r.talkers[name], name, draw, 350*time.Millisecond) })
	}
	for i, g := range r.posts {
		draw := rand.New(rand.NewPCG(o.seed, uint64(50+i)))
		work.Go(func() { r.post(talking, g, draw) })
	}
	for i, n := range []int{keepersPerRun - 1, keepersPerRun + speakersPerRun - 1} {
		draw := rand.New(rand.NewPCG(o.seed, uint64(70+i)))
		work.Go(func() { r.comeAndGo(talking, fmt.Sprintf("user-%d", n), draw) })
	}
	for r.chaos.sleeper.at("plaza") == math.MaxInt64 && pause(ctx, 20*time.Millisecond) {
	}
	r.chaos.sleeper.sleep()
	r.chaos.run(ctx, steps)
	r.chaos.sleeper.wake()
	r.chaos.do(ctx, step{what: "kill", victim: "irc"}) // no later line tells that the last ones were lost
	pause(ctx, 500*time.Millisecond)
	silence()
	work.Wait()
}

// post is a game server that sends system messages, each under one id until it is answered, and changes what was said.
func (r *ledgerRun) post(ctx context.Context, g *gameServer, draw *rand.Rand) {
	for n := 0; pause(ctx, between(draw, 200*time.Millisecond, 600*time.Millisecond)); n++ {
		s := r.begin(&sending{
			who: "api " + g.version, version: "api", channel: ledgerChannels[draw.IntN(len(ledgerChannels))],
			text: fmt.Sprintf("お知らせ %s %d", g.version, n), id: ulid.Make().String(),
		})
		r.changeAny(draw, s)
		for r.postOnce(context.WithoutCancel(ctx), g, s) != nil && pause(ctx, 200*time.Millisecond) {
			r.note(func() { s.tries++ })
		}
	}
}

// changeAny makes every fourth message an edit, and every twelfth a deletion, of what somebody said lately.
func (r *ledgerRun) changeAny(draw *rand.Rand, s *sending) {
	n := draw.IntN(12)
	if n > 3 || s.channel == unlogged {
		return
	}
	r.note(func() {
		var said []*sending
		for _, other := range slices.Backward(r.sent) {
			if other.channel == s.channel && other.kind == "" && !other.acked.IsZero() && len(said) < 20 {
				said = append(said, other)
			}
		}
		if len(said) == 0 {
			return
		}
		s.kind, s.target = "edit", said[draw.IntN(len(said))].id
		if n == 0 {
			s.kind, s.text, s.id = "del", "", ""
		}
	})
}

func (r *ledgerRun) postOnce(ctx context.Context, g *gameServer, s *sending) error {
	var posted struct {
		ID    string `json:"id"`
		Epoch string `json:"epoch"`
		Seq   int64  `json:"seq"`
	}
	path, body := "channels/"+s.channel+"/messages", map[string]any{"text": s.text, "id": s.id}
	var err error
	switch s.kind {
	case "":
		err = g.call(ctx, http.MethodPost, path, body, &posted)
	case "edit":
		err = g.call(ctx, http.MethodPatch, path+"/"+s.target, body, &posted)
	case "del":
		err = g.call(ctx, http.MethodDelete, path+"/"+s.target, nil, &posted)
	}
	var refused *apiError
	switch {
	case err == nil:
		r.note(func() { s.id, s.acked, s.epoch, s.seq = posted.ID, time.Now(), posted.Epoch, posted.Seq })
	case errors.As(err, &refused) && refused.Code == "no_such_message":
		r.note(func() { s.refused = refused.Code })
		return nil
	}
	return err
}

// comeAndGo changes a user's membership of guild-1 every now and then; in the end it is a member.
func (r *ledgerRun) comeAndGo(ctx context.Context, id string, draw *rand.Rand) {
	path := "channels/guild-1/members/" + id
	for member := true; ; member = !member {
		more := pause(ctx, between(draw, time.Second, 4*time.Second))
		method := http.MethodPut
		if member && more {
			method = http.MethodDelete
		}
		trying, stop := context.WithTimeout(context.WithoutCancel(ctx), quietAfter)
		for r.game.call(trying, method, path, nil, nil) != nil && pause(trying, 200*time.Millisecond) {
		}
		stop()
		if !more {
			return
		}
	}
}

// calm waits until all parts are well again and everybody has received everything. What does not come in time is left to the account.
func (r *ledgerRun) calm(t *testing.T, ctx context.Context, patience time.Duration) (took time.Duration) {
	t.Helper()
	began := time.Now()
	if r.up == nil {
		if err := r.chaos.startAgain(ctx); r.up == nil {
			t.Fatalf("the control plane does not start again: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := r.awaitHealthy(ctx); err != nil {
		t.Error(err)
	}
	for {
		late := r.late(ctx)
		if len(late) == 0 {
			return time.Since(began)
		}
		if !pause(ctx, 300*time.Millisecond) {
			t.Logf("not all is quiet after %s: %v", patience, late)
			return time.Since(began)
		}
	}
}

// ledgerHead is where a channel's log ends, and the last of it that 1.0 is told.
type ledgerHead struct {
	seq  int64
	told logRow
}

// late names who has not got everything yet.
func (r *ledgerRun) late(ctx context.Context) []string {
	log, err := readLog(ctx, r.storeURL(), ledgerChannels)
	if err != nil {
		return []string{err.Error()}
	}
	heads := map[string]ledgerHead{}
	for channel, rows := range r.whole(log) {
		head := ledgerHead{seq: int64(len(rows))}
		for _, row := range rows {
			if row.toldIn1() {
				head.told = row
			}
		}
		heads[channel] = head
	}
	var late []string
	for _, name := range sortedKeys(r.talkers) {
		if !r.talkers[name].quiet(heads) {
			late = append(late, name)
		}
	}
	return late
}

func (r *rig) storeURL() string {
	if r.store != "" {
		return r.store
	}
	return "sqlite:" + r.path("kms.db")
}

// part has everybody leave; it may be called twice.
func (r *ledgerRun) part() {
	var work sync.WaitGroup
	for _, c := range r.talkers {
		work.Go(c.close)
	}
	work.Wait()
	r.front.close()
	r.bare.close()
}

// sum logs how much the run has to say.
func (r *ledgerRun) sum(t *testing.T, log map[string][]logRow, quiet time.Duration) {
	acked, retried, got, rows, undone := 0, 0, 0, 0, 0
	for _, s := range r.sent {
		if !s.acked.IsZero() {
			acked++
		}
		if s.tries > 1 {
			retried++
		}
	}
	for _, s := range r.stretchs {
		got += len(s.got)
	}
	for _, list := range log {
		rows += len(list)
	}
	for _, o := range r.outages {
		if o.note != "" {
			undone++
		}
	}
	t.Logf("%d sent, %d acknowledged, %d sent again, %d in the log, %d received, %d connections lost, %d times truncated, "+
		"%d of %d steps with a note, quiet after %s",
		len(r.sent), acked, retried, rows, got, len(r.closings), len(r.truncations), undone, len(r.outages), quiet.Round(time.Millisecond))
	for _, o := range r.outages {
		t.Logf("%s to %s: %s %.200s", r.since(o.began), r.since(o.ended), o.step, o.note)
	}
}

// keepLogs leaves the servers' own words where KMS_LEDGER_LOGS says.
func (r *ledgerRun) keepLogs(t *testing.T) {
	dir := os.Getenv("KMS_LEDGER_LOGS")
	if dir == "" {
		return
	}
	dir = filepath.Join(dir, strings.ReplaceAll(strings.ReplaceAll(t.Name(), "/", "_"), " ", "_"))
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.CopyFS(filepath.Join(dir, fmt.Sprint(time.Now().Unix())), os.DirFS(r.path("logs"))))
	must(t, os.WriteFile(filepath.Join(dir, "control.log"), r.up.stderr.bytes(), 0o644))
}

// TestSchedule_isTheSeeds holds that a seed always gives the same schedule, and that a short one has everything.
func TestSchedule_isTheSeeds(t *testing.T) {
	for _, mysql := range []bool{false, true} {
		a, b := schedule(7, time.Minute, deck(mysql)), schedule(7, time.Minute, deck(mysql))
		if !slices.Equal(a, b) || slices.Equal(a, schedule(8, time.Minute, deck(mysql))) {
			t.Errorf("seed 7 gives %v and %v", a, b)
		}
		for _, card := range deck(mysql) {
			if !slices.ContainsFunc(a, func(s step) bool { return s.what+" "+s.victim == card }) {
				t.Errorf("%q is not in a schedule of a minute", card)
			}
		}
	}
}
