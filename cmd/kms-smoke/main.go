// Command kms-smoke brings up a whole KMS in a temporary home on free ports, with the real kmsctl, versions, nginx, IRC server and
// store, lives through a day of chat and releases with it, and tears it down. It prints one JSON line with what it measured,
// `"ok":true` first, and exits with 1 when anything was not as promised. Its tests kill the parts one after the other.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
)

// within is how long the whole story may take.
const within = 60 * time.Second

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if text := os.Getenv(witnessEnv); text != "" {
		return testify(text, os.Stdin, stdout)
	}
	if os.Getenv(phonesEnv) != "" {
		return bePhones()
	}
	flags := flag.NewFlagSet("kms-smoke", flag.ContinueOnError)
	flags.SetOutput(stderr)
	builds := flags.String("builds", "bin", "directory of kmsctl, kms-1.0 and kms-2.0")
	store := flags.String("store", "sqlite", "sqlite, or mysql: a database of its own on the server that KMS_TEST_MYSQL names")
	ircd := flags.String("ircd", "", "inspircd or ngircd; empty: whichever is installed")
	bench := flags.Bool("bench-deploys", false, "instead swap builds under load and print a JSON line per figure")
	swaps := flags.Int("swaps", 200, "of --bench-deploys")
	clients := flags.Int("clients", 1000, "WebSockets of --bench-deploys, half of them of each version")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *bench {
		dir, err := filepath.Abs(*builds)
		if err != nil {
			fmt.Fprintln(stderr, "kms-smoke: error:", err)
			return 1
		}
		return benchDeploys(ctx, options{builds: dir, ircd: *ircd}, *swaps, *clients, stdout, stderr)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("it took longer than %s", within))
	defer cancel()
	result := smoke(ctx, *builds, *store, *ircd, stderr)
	line, err := json.Marshal(result)
	if err != nil {
		fmt.Fprintln(stderr, "kms-smoke: error: internal error:", err)
		return 1
	}
	fmt.Fprintf(stdout, "%s\n", line)
	if !result.OK {
		return 1
	}
	return 0
}

// smoke runs the story on a rig of its own and leaves nothing behind.
func smoke(ctx context.Context, builds, store, ircd string, progress io.Writer) *report {
	began := time.Now()
	out := &report{Store: store, IRCD: ircd}
	err := inRig(ctx, builds, store, ircd, progress, out)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	out.Seconds = figure.Round(time.Since(began).Seconds())
	if err != nil {
		out.Error = err.Error()
	}
	out.OK = err == nil
	return out
}

func inRig(ctx context.Context, builds, store, ircd string, progress io.Writer, out *report) (err error) {
	o := options{ircd: ircd}
	if o.builds, err = filepath.Abs(builds); err != nil {
		return err
	}
	switch store {
	case "sqlite":
	case "mysql":
		url, drop, cannot := makeDatabase(ctx, os.Getenv("KMS_TEST_MYSQL"))
		if cannot != nil {
			return cannot
		}
		defer func() { err = errors.Join(err, drop()) }()
		o.store = url
	default:
		return fmt.Errorf("unknown store %q: want sqlite or mysql", store)
	}
	r, err := newRig(o)
	if err != nil {
		return err
	}
	s := &story{rig: r, out: out, progress: progress}
	err = s.tell(ctx)
	if err != nil && r.up != nil {
		fmt.Fprintf(progress, "kms-smoke: the control plane's last words:\n%s\n", r.up.stderr.tail())
	}
	s.say("tearing down")
	return errors.Join(err, r.close())
}
