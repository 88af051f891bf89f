package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/kmsctl/kms/runtime/testkit"
)

// kms is a whole KMS on this machine: `kmsctl up` on free ports in a home of its own.
type kms struct{ bin, home, addr string }

// startKMS builds kmsctl and both versions, brings them up, and takes them down as Ctrl-C does.
func startKMS(t *testing.T) *kms {
	t.Helper()
	testkit.Need(t, "nginx")
	irc := "inspircd"
	if _, err := exec.LookPath(irc); err != nil {
		irc = "ngircd"
	}
	testkit.Need(t, irc)
	dir := testkit.ShortDir(t)
	k := &kms{bin: filepath.Join(dir, "bin"), home: filepath.Join(dir, "home"), addr: testkit.FreeAddr(t)}
	for name, path := range map[string]string{"kmsctl": ".", "kms-1.0": "../../versions/v1_0", "kms-2.0": "../../versions/v2_0"} {
		k.build(t, name, path)
	}
	up := exec.Command(filepath.Join(k.bin, "kmsctl"), "up", "--home", k.home, "--http", k.addr, "--https", testkit.FreeAddr(t), "--irc-listen", testkit.FreeAddr(t))
	var out safeBuffer
	up.Stdout, up.Stderr = &out, &out
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- up.Wait() }()
	t.Cleanup(func() {
		_ = up.Process.Signal(syscall.SIGINT) // it may have ended by itself; then Wait says so
		if err := <-exited; err != nil {
			t.Errorf("kmsctl up: %v\n%s", err, out.String())
		}
	})
	testkit.Eventually(t, time.Minute, "kmsctl up says that the page is there", func() bool {
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("kmsctl up ended: %v\n%s", err, out.String())
		default:
		}
		return strings.Contains(out.String(), "chat page: ")
	})
	return k
}

func (k *kms) build(t *testing.T, name, path string, flags ...string) {
	t.Helper()
	args := append([]string{"build", "-o", filepath.Join(k.bin, name)}, append(flags, path)...)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("cannot build %s: %v\n%s", path, err, out)
	}
}

// ctl runs a command of the built kmsctl, which must succeed, and returns what it prints.
func (k *kms) ctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(k.bin, "kmsctl"), append([]string{"--home", k.home}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("kmsctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// read takes what a command prints as JSON. Its exit code is not asked: status ends with 7 while a version restarts.
func (k *kms) read(t *testing.T, into any, args ...string) {
	t.Helper()
	out, runErr := exec.Command(filepath.Join(k.bin, "kmsctl"), append([]string{"--home", k.home, "-o", "json"}, args...)...).Output()
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("kmsctl %s: %v, %v\n%s", strings.Join(args, " "), runErr, err, out)
	}
}

// announce posts a system message as a game server does.
func (k *kms) announce(t *testing.T, text string) {
	t.Helper()
	url := fmt.Sprintf("http://%s/api/2.0/demo/channels/lobby/messages", k.addr)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(fmt.Sprintf(`{"name":"KMS","text":%q}`, text)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+k.ctl(t, "key", "add", "demo", "-q"))
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		t.Fatalf("posting a system message was answered %s", answer.Status)
	}
}

// safeBuffer takes the output of a running program while the test reads it.
type safeBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// startBrowser returns the context of a running Chromium that asks for nothing but what the test asks for.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(testkit.Need(t, "chromium")), chromedp.UserDataDir(testkit.ShortDir(t)),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
	}
	for _, flag := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync",
		"disable-dev-shm-usage", "disable-background-timer-throttling", "disable-renderer-backgrounding"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // waits for the process, whose directory is removed next
			t.Errorf("cannot end chromium: %v", err)
		}
		cancel()
		stop()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("cannot start chromium: %v", err)
	}
	return ctx
}

// page is one tab on the chat page.
type page struct {
	t   *testing.T
	ctx context.Context
}

const (
	left  = `.pane:nth-child(1)`
	right = `.pane:nth-child(2)`

	connected = ` .state[data-state="connected"]`
)

// openPage opens a tab in a browser context of its own. Whatever the page's own code or its security policy complains about
// fails the test.
func openPage(t *testing.T, browser context.Context, url string) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	var complaints safeBuffer
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			fmt.Fprintf(&complaints, "%s:%d: %s\n", e.ExceptionDetails.URL, e.ExceptionDetails.LineNumber+1, e.ExceptionDetails.Text)
		case *cdplog.EventEntryAdded:
			if e.Entry.Source == cdplog.EntrySourceSecurity {
				fmt.Fprintln(&complaints, e.Entry.Text)
			}
		}
	})
	if err != nil {
		t.Fatalf("cannot listen to the browser: %v", err)
	}
	t.Cleanup(func() {
		if c := complaints.String(); c != "" {
			t.Errorf("the browser complains:\n%s", c)
		}
	})
	p := &page{t, ctx}
	p.do(chromedp.EmulateViewport(1200, 760), chromedp.Navigate(url))
	return p
}

func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	fromPage(p, chromedp.Steps(actions...))
}

// fromPage does one thing on the page and returns its value.
func fromPage[T any](p *page, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatalf("cannot drive the page: %v", err)
	}
	return value
}

func eval[T any](p *page, js string) T {
	p.t.Helper()
	return fromPage(p, chromedp.Evaluate[T](js))
}

// text is what is shown of the elements that match, one a line.
func (p *page) text(selector string) string {
	p.t.Helper()
	return eval[string](p, fmt.Sprintf(`[...document.querySelectorAll(%q)].filter((e) => e.offsetParent).map((e) => e.innerText).join("\n")`, selector))
}

// shows waits until the elements that match show want; it may be a part of it.
func (p *page) shows(selector, want string) {
	p.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !strings.Contains(p.text(selector), want) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not show %q but %q; the page is\n%s", selector, want, p.text(selector), p.text("body"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// connected waits until both panes are in their channel.
func (p *page) connected() {
	p.t.Helper()
	p.shows(left+connected, "connected")
	p.shows(right+connected, "connected")
}

// say enters text as a keyboard or an input method does and ends with Enter.
func (p *page) say(pane, text string) {
	p.t.Helper()
	p.do(chromedp.Focus(chromedp.CSS(pane+" textarea")), func(ctx context.Context, tab *chromedp.Target) (chromedp.Void, error) {
		return cdp.Call(ctx, tab, input.InsertText, input.InsertTextParams{Text: text})
	}, enter)
}

// enter presses the key as one event: chromedp's own sends the character apart, and the page could not keep it from the input.
func enter(ctx context.Context, tab *chromedp.Target) (chromedp.Void, error) {
	key := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: "Enter", Code: "Enter", Text: "\r", WindowsVirtualKeyCode: 13}
	if _, err := cdp.Call(ctx, tab, input.DispatchKeyEvent, key); err != nil {
		return chromedp.Void{}, err
	}
	key.Type, key.Text = input.DispatchKeyEventTypeKeyUp, ""
	return cdp.Call(ctx, tab, input.DispatchKeyEvent, key)
}

func (p *page) typeIn(selector, text string) {
	p.t.Helper()
	p.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// compose leaves text in the input method's hands, as a Japanese keyboard does before it is confirmed.
func (p *page) compose(pane, text string) {
	p.t.Helper()
	end := int64(utf8.RuneCountInString(text))
	p.do(chromedp.Focus(chromedp.CSS(pane+" textarea")), func(ctx context.Context, tab *chromedp.Target) (chromedp.Void, error) {
		return cdp.Call(ctx, tab, input.ImeSetComposition, input.ImeSetCompositionParams{Text: text, SelectionStart: end, SelectionEnd: end})
	})
}

// shot writes what is seen to $KMS_SCREENSHOT/name.png, or to a directory that goes with the test.
func (p *page) shot(name, scheme string, width, height int64) {
	p.t.Helper()
	dir := os.Getenv("KMS_SCREENSHOT")
	if dir == "" {
		dir = p.t.TempDir()
	}
	p.do(chromedp.EmulateViewport(width, height), func(ctx context.Context, tab *chromedp.Target) (chromedp.Void, error) {
		features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
		return cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
	})
	png := fromPage(p, chromedp.CaptureScreenshot())
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		p.t.Fatal(err)
	}
	if eval[bool](p, `document.documentElement.scrollWidth > innerWidth`) {
		p.t.Errorf("the page is wider than %d px", width)
	}
}
