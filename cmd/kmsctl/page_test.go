package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/testkit"
)

// TestPage drives the chat page in a real browser on a real KMS. The stories share both and run in this order: the last ones
// change what lives.
func TestPage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a whole KMS and a browser")
	}
	browser := startBrowser(t)
	k := startKMS(t)
	for _, story := range []struct {
		name string
		tell func(*testing.T, *kms, context.Context)
	}{
		{"talksAcrossVersions", pageTalks},
		{"showsNGWordsAtWork", pageNGWords},
		{"leavesEnterToTheInputMethod", pageIME},
		{"showsMarkupAsText", pageMarkup},
		{"staysWhereOneReads", pageScroll},
		{"feelsInstant", pageInstant},
		{"followsADeploy", pageDeploy},
		{"comesBackAfterAKill", pageKill},
		{"movesFromARetiredVersion", pageRetired},
		{"asksForALoginWithoutADemo", pageLogin},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(t, k, browser) })
	}
}

func (k *kms) open(t *testing.T, browser context.Context) *page {
	t.Helper()
	p := openPage(t, browser, "http://"+k.addr+"/")
	p.connected()
	return p
}

func pageTalks(t *testing.T, k *kms, browser context.Context) {
	p := k.open(t, browser)
	p.shows("#versions .chip", "1.0\n2.0")
	p.shows(left+" .who", "あいこ")
	p.shows(right+" .who", "Ben")
	p.say(left, "こんにちは、ベン。吉野家の𠮷と絵文字👩‍💻も届く？")
	p.shows(right+" .message:not(.own)", "こんにちは、ベン。吉野家の𠮷と絵文字👩‍💻も届く？")
	p.say(right, "Hello あいこ, they do!")
	p.shows(left+" .message:not(.own)", "Hello あいこ, they do!")
	p.shows(left+" .message.own", "こんにちは")
	p.shows(right+" .message.own", "Hello")
	k.announce(t, "Maintenance at 3:00 · 3時からメンテナンスです")
	p.shows(left+" .system", "メンテナンス")
	p.shows(right+" .system", "メンテナンス")

	p = k.open(t, browser) // a second look: only 2.0 has what was said before
	p.shows(right+" .message.past", "Hello あいこ")
	if text := p.text(left + " .message"); text != "" {
		t.Errorf("1.0 shows the past: %q", text)
	}
}

func pageNGWords(t *testing.T, k *kms, browser context.Context) {
	p := k.open(t, browser)
	for pane, other := range map[string]string{left: right, right: left} {
		p.say(pane, "うちの犬はばかだけどかわいい")
		p.shows(other+" .message:last-child .text", "うちの犬は**だけどかわいい")
		p.shows(pane+" .message.own", "a word was masked")
		p.say(pane, "buy spam now")
		p.shows(pane+" .problem", "Not sent:")
		p.shows(pane+" .problem code", "ng_word")
		if kept := fromPage(p, chromedp.Value(chromedp.CSS(pane+" textarea"))); kept != "buy spam now" {
			t.Errorf("after the refusal the input holds %q", kept)
		}
		if all := p.text(".log"); strings.Contains(all, "spam") || strings.Contains(all, "ばか") {
			t.Errorf("a forbidden word is seen:\n%s", all)
		}
		eval[string](p, `document.querySelector("`+pane+` textarea").value = ""`)
	}
	p.say(left, "spam")
	p.shows(left+" .problem", "Not sent:")
	p.say(right, "伝わった")
	p.shows(left+" .message", "伝わった")
	p.shot("light", "light", 1200, 760)
	p.shot("dark", "dark", 1200, 760)
	p.shot("narrow", "light", 400, 800)
	p.shot("narrow-dark", "dark", 400, 800)
}

func pageIME(t *testing.T, k *kms, browser context.Context) {
	p := k.open(t, browser)
	p.compose(left, "かんじ")
	p.do(enter)
	p.say(right, "still composing?")
	p.shows(left+" .message", "still composing?")
	if own := p.text(left + " .message.own"); own != "" {
		t.Errorf("an Enter within a composition sent %q", own)
	}
}

func pageMarkup(t *testing.T, k *kms, browser context.Context) {
	p := k.open(t, browser)
	const markup = `<img src=x onerror="document.title='owned'"> &amp; "quotes" \u0041`
	p.say(left, markup)
	p.shows(right+" .message:not(.own) .text", markup)
	p.say(right, markup)
	p.shows(left+" .message:not(.own) .text", markup)
	if images := eval[int](p, `document.querySelectorAll(".log img").length`); images != 0 {
		t.Errorf("a message made %d images", images)
	}
}

func pageScroll(t *testing.T, k *kms, browser context.Context) {
	p := k.open(t, browser)
	p.do(chromedp.EmulateViewport(1200, 500))
	for range 12 {
		p.say(left, "行")
	}
	const atEnd = `(() => { const l = document.querySelector("` + right + ` .log"); return l.scrollHeight - l.scrollTop - l.clientHeight < 24 })()`
	testkit.Eventually(t, 10*time.Second, "the list follows what is new", func() bool {
		return eval[bool](p, atEnd)
	})
	eval[int](p, `document.querySelector("`+right+` .log").scrollTop = 0`)
	p.say(left, "下の行")
	p.shows(right+" .message", "下の行")
	p.shows(right+" .newer", "New messages")
	if eval[bool](p, atEnd) {
		t.Error("the list was pulled away from whoever reads further up")
	}
	p.do(chromedp.Click(chromedp.CSS(right + " .newer")))
	if !eval[bool](p, atEnd) {
		t.Error("the button does not lead to what is new")
	}
}

// What one says stands there at once, pale, and stays where it is when the answer comes.
func pageInstant(t *testing.T, k *kms, browser context.Context) {
	p := k.open(t, browser)
	p.say(left, "はい？")
	p.shows(right+" .message", "はい？")
	_, ua := k.serving(t, "2.0")
	if err := syscall.Kill(ua, syscall.SIGSTOP); err != nil { // no answer comes before SIGCONT
		t.Fatal(err)
	}
	defer syscall.Kill(ua, syscall.SIGCONT)
	p.say(right, "すぐ見える")
	const own = right + " .message.own:last-child"
	p.shows(own+".pending .text", "すぐ見える")
	p.shot("pending", "light", 1200, 760)
	const place = `JSON.stringify(document.querySelector("` + own + ` .bubble").getBoundingClientRect())`
	before := eval[string](p, place)
	if err := syscall.Kill(ua, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.shows(left+" .message:not(.own)", "すぐ見える")
	p.shows(own+".sent .text", "すぐ見える")
	if after := eval[string](p, place); after != before {
		t.Errorf("it jumped from %s to %s", before, after)
	}
	p.say(left, "ばか")
	p.shows(left+" .message.own.sent", "a word was masked")
}

// A deploy of each version while both talk: 2.0 shows that it moves and is never without a connection; 1.0 is told and comes back.
func pageDeploy(t *testing.T, k *kms, browser context.Context) {
	p := k.open(t, browser)
	eval[bool](p, `(() => {
		window.states = [];
		const note = (e) => window.states.push(e.dataset.state);
		const state = document.querySelector("`+right+` .state");
		new MutationObserver(() => note(state)).observe(state, { attributes: true, attributeFilter: ["data-state"] });
		return true;
	})()`)
	k.build(t, "again-2.0", "../../versions/v2_0", "-ldflags", "-X main.label=again")
	p.talksThrough("配備", func() {
		k.ctl(t, "deploy", filepath.Join(k.bin, "again-2.0"))
		k.moved(t, "2.0")
	})
	p.shows(right+" .note", "moved to another server: nothing was missed")
	p.shows(right+connected, "connected")
	if states := eval[[]string](p, `window.states`); !slices.Equal(states, []string{"moving", "connected"}) {
		t.Errorf("a deploy of 2.0 was seen as %v", states)
	}
	k.build(t, "again-1.0", "../../versions/v1_0", "-ldflags", "-X main.label=again")
	k.ctl(t, "deploy", filepath.Join(k.bin, "again-1.0"))
	p.shows(left+" .note", "what was said in between is missing")
	p.say(left, "ただいま")
	p.shows(right+" .message", "ただいま")
}

// talksThrough has both panes talk as fast as they can while do runs. 2.0 shows all of it once, each one's in their order.
func (p *page) talksThrough(topic string, do func()) {
	p.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	n := 0
	for over := false; !over; n++ {
		select {
		case <-done:
			over = true // one more, after it
		default:
		}
		p.say(left, fmt.Sprintf("%s %d left", topic, n))
		p.say(right, fmt.Sprintf("%s %d right", topic, n))
	}
	for _, side := range []string{"left", "right"} {
		last := fmt.Sprintf("%s %d %s", topic, n-1, side)
		p.shows(right+" .message:not(.pending) .text", last)
		var want, got []string
		for i := range n {
			want = append(want, fmt.Sprintf("%s %d %s", topic, i, side))
		}
		for line := range strings.Lines(p.text(right + " .message .text")) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, topic) && strings.HasSuffix(line, side) {
				got = append(got, line)
			}
		}
		if !slices.Equal(got, want) {
			p.t.Errorf("2.0 shows %q, want %q", got, want)
		}
	}
	p.t.Logf("%s: %d messages", topic, 2*n)
}

// A killed process of 2.0: its pane comes back by itself, gets what was said meanwhile, and sends what was typed meanwhile, once.
func pageKill(t *testing.T, k *kms, browser context.Context) {
	p := k.open(t, browser)
	_, ua := k.serving(t, "2.0")
	if err := syscall.Kill(ua, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.shows(right+" .state", "reconnecting")
	p.say(right, "もちろん")
	p.shows(right+" .message.own.pending", "もちろん")
	p.shot("reconnecting", "light", 1200, 760)
	p.shot("reconnecting-narrow", "light", 400, 800)
	p.say(left, "聞こえる？")
	p.connected()
	p.shows(right+" .message:not(.own)", "聞こえる？")
	p.shows(left+" .message:not(.own)", "もちろん")
	p.shows(right+" .message.own.sent", "もちろん")
	for _, text := range []string{"聞こえる？", "もちろん"} {
		if n := strings.Count(p.text(right+" .log"), text); n != 1 {
			t.Errorf("2.0 shows %q %d times", text, n)
		}
	}
	p.talksThrough("再起動", func() {
		_, ua := k.serving(t, "2.0")
		if err := syscall.Kill(ua, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		testkit.Eventually(t, 20*time.Second, "another process serves", func() bool {
			_, next := k.serving(t, "2.0")
			return next != 0 && next != ua
		})
	})
}

// serving tells the set that serves a version, and the process id of its UA.
func (k *kms) serving(t *testing.T, version string) (set string, ua int) {
	t.Helper()
	var status controlplane.Status
	k.read(t, &status, "status")
	for _, v := range status.Versions {
		for _, s := range v.Sets {
			for _, i := range s.Instances {
				if v.Name == version && s.State == controlplane.SetServing && i.Role == "ua" {
					set, ua = s.ID, i.PID
				}
			}
		}
	}
	return set, ua
}

// moved waits until all connections of a version are on the set that serves it now.
func (k *kms) moved(t *testing.T, version string) {
	t.Helper()
	set, _ := k.serving(t, version)
	testkit.Eventually(t, 30*time.Second, "connections move to set "+set, func() bool {
		var list []controlplane.Connection
		k.read(t, &list, "conn", "list", "--version", version, "--tenant", "demo")
		return len(list) > 0 && !slices.ContainsFunc(list, func(c controlplane.Connection) bool { return c.Set != set })
	})
}

func pageRetired(t *testing.T, k *kms, browser context.Context) {
	p := k.open(t, browser)
	k.ctl(t, "retire", "1.0", "--force", "--yes", "--message", "いままでありがとう")
	p.shows(left+" .state", "refused")
	p.shows(left+" .reason", "Version 1.0 was retired: いままでありがとう")
	p.shows(left+" .reason", "Move to 2.0")
	testkit.Eventually(t, 10*time.Second, "1.0 leaves the live versions", func() bool { return p.text("#versions") == "2.0" })
	p.shot("retired", "light", 1200, 760)
	p.do(chromedp.SendKeys(chromedp.CSS(left+" .version"), "2"))
	p.shows(left+connected, "connected")
	p.say(left, "2.0 に来た")
	p.shows(right+" .message", "2.0 に来た")
}

func pageLogin(t *testing.T, k *kms, browser context.Context) {
	demo := filepath.Join(k.home, "nginx", "web", "demo.json")
	if err := os.Remove(demo); err != nil {
		t.Fatal(err)
	}
	p := openPage(t, browser, "http://"+k.addr+"/")
	p.shows(right+" .login", "Log in with a token")
	p.shot("login", "light", 1200, 760)
	form := right + " .login "
	p.typeIn(form+"[name=tenant]", "demo")
	p.typeIn(form+"[name=channel]", "lobby")
	p.typeIn(form+"[name=token]", "wrong\r")
	p.shows(right+" .reason", "token")
	p.shows(right+" .login", "Log in with a token")
	token := k.ctl(t, "token", "put", "demo", "chika", "--name", "ちか", "-q")
	p.do(chromedp.SetValue(chromedp.CSS(form+"[name=token]"), token), chromedp.Click(chromedp.CSS(form+"button")))
	p.shows(right+connected, "connected")
	p.shows(right+" .who", "ちか")
}
