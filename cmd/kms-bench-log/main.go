// Command kms-bench-log measures the message log and what stands on it, with real UA processes of 2.0 over their unix sockets: how
// many messages a second are acknowledged, how soon, how a crowd resumes, how long a message takes over two linked IRC servers, and how
// much longer beside a tenant that sends ten times its quota.
// It prints one JSON line per figure and exits with 1 when a goal is missed. KMS_TEST_MYSQL names the MariaDB server to use.
//
//	kms-bench-log --builds bin                       everything, about three minutes
//	kms-bench-log --builds bin --only resume,linked  some of it
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// scenarios in the order in which they run.
var scenarios = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"sqlite", func(b *bench, ctx context.Context) error { return b.log(ctx, "sqlite", 20_000) }},
	{"mariadb", func(b *bench, ctx context.Context) error { return b.log(ctx, "mariadb", 5_000) }},
	{"resume", (*bench).resume},
	{"linked", (*bench).linked},
	{"fairness", (*bench).fairness},
}

// bench is one run.
type bench struct {
	builds   string // absolute
	profiles string // directory for CPU profiles of the UA, or empty
	only     []string
	length   time.Duration
	senders  int // each alone in its channel
	crowd    int // clients that resume
	figures  *figure.Sheet
	progress io.Writer
}

func run(args []string, stdout, stderr io.Writer) int {
	if os.Getenv(noiseEnv) != "" {
		return beNoise(stderr)
	}
	b := &bench{figures: figure.NewSheet(stdout), progress: stderr}
	flags := flag.NewFlagSet("kms-bench-log", flag.ContinueOnError)
	flags.SetOutput(stderr)
	builds := flags.String("builds", "bin", "directory of kms-2.0")
	only := flags.String("only", "", "scenarios, with commas; empty: "+scenarioNames())
	flags.DurationVar(&b.length, "length", 8*time.Second, "of what is measured, each time")
	flags.IntVar(&b.senders, "senders", 200, "clients that send, each alone in its channel")
	flags.IntVar(&b.crowd, "crowd", 2000, "clients that resume at once")
	flags.StringVar(&b.profiles, "profiles", "", "directory to write CPU profiles of the UA to, which costs it some")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	err := b.prepare(*builds, *only)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = b.runAll(ctx)
	}
	if err != nil {
		fmt.Fprintln(stderr, "kms-bench-log: error:", err)
	}
	if err != nil || b.figures.Missed() > 0 {
		return 1
	}
	return 0
}

func scenarioNames() string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

func (b *bench) prepare(builds, only string) (err error) {
	if only != "" {
		b.only = strings.Split(only, ",")
	}
	for _, name := range b.only {
		if !slices.Contains(strings.Split(scenarioNames(), ","), name) {
			return fmt.Errorf("unknown scenario %q: want %s", name, scenarioNames())
		}
	}
	if b.builds, err = filepath.Abs(builds); err != nil {
		return err
	}
	debug.SetGCPercent(400) // the load should cost little
	return figure.OpenFiles(b.crowd + 500)
}

func (b *bench) runAll(ctx context.Context) error {
	for _, s := range scenarios {
		if len(b.only) > 0 && !slices.Contains(b.only, s.name) {
			continue
		}
		b.say("%s", s.name)
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "kms-bench-log: "+format+"\n", args...)
}
