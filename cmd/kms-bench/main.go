// Command kms-bench measures a real KMS (nginx, IRC server, store, a build of 2.0 with login, NG words, bus and log) beside a bare
// floor server and two peers, all in one run on one machine, and prints one JSON line per figure. The load comes from this process:
// thousands of clients on one thread that reads, so that what is measured is the server; its own CPU is told with every figure.
//
//	kms-bench --builds bin                     everything, about eight minutes
//	kms-bench --builds bin --only guild,idle   some scenarios
//	kms-bench --quick                          shorter runs, smaller churn: for a look while working, not for a figure to quote
//	kms-bench floor SOCKET                     the floor server alone
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

func main() {
	if len(os.Args) == 3 && os.Args[1] == "floor" {
		if err := serveFloor(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "kms-bench: error:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// scenarios in the order in which they run.
var scenarios = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"guild", (*bench).guild},
	{"world", (*bench).world},
	{"idle", (*bench).idle},
	{"joins", (*bench).joins},
}

// bench is one run.
type bench struct {
	builds   string // absolute
	profiles string // directory for the UA's CPU profiles, or empty
	only     []string
	length   time.Duration // of what is measured, a contender and round
	rounds   int           // a contender's turns; they alternate
	churn    int           // connects and leaves
	figures  *figure.Sheet
	progress io.Writer
	warmed   func() // for the next measurement's pace
}

func run(args []string, stdout, stderr io.Writer) int {
	b := &bench{figures: figure.NewSheet(stdout), progress: stderr}
	flags := flag.NewFlagSet("kms-bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	builds := flags.String("builds", "bin", "directory of kmsctl, kms-1.0 and kms-2.0")
	only := flags.String("only", "", "scenarios, with commas; empty: "+scenarioNames())
	quick := flags.Bool("quick", false, "shorter runs")
	flags.DurationVar(&b.length, "length", 5*time.Second, "of what is measured, for each contender and round")
	flags.IntVar(&b.rounds, "rounds", 2, "turns of each contender; they alternate")
	flags.IntVar(&b.churn, "churn", 100_000, "connects and leaves in idle")
	flags.StringVar(&b.profiles, "profiles", "", "directory to write CPU profiles of the UA to, which costs it some")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *quick {
		b.length, b.rounds, b.churn = 3*time.Second, 1, 20_000
	}
	err := b.prepare(*builds, *only)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = b.runAll(ctx)
	}
	if err != nil {
		fmt.Fprintln(stderr, "kms-bench: error:", err)
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

// prepare makes this process fit to be a load: as many files as it may have, and hardly any garbage collection.
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
	debug.SetGCPercent(400)
	return figure.OpenFiles(9000)
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
	fmt.Fprintf(b.progress, "kms-bench: "+format+"\n", args...)
}
