// Command kms-bench-ngword measures the NG-word filter and, in the same run, the libraries one would take instead: what it finds
// and lets through on cases, what a line costs, what a list costs, and how much worse hostile lines are. It prints one JSON line per
// figure and exits with 1 when a goal is missed.
//
//	kms-bench-ngword --cases FILE     with cases that were not written with the filter
//	kms-bench-ngword --peers=false    the filter alone
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kmsctl/kms/cmd/internal/figure"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// bench is one run.
type bench struct {
	own, outside string // files of cases; outside may be empty
	peers        bool
	length       time.Duration // of each measurement
	figures      *figure.Sheet
}

const outsideCases = "../shared/ngwords/cases.json"

func run(args []string, stdout, stderr io.Writer) int {
	b := &bench{figures: figure.NewSheet(stdout)}
	flags := flag.NewFlagSet("kms-bench-ngword", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&b.own, "own", "runtime/ngword/testdata/cases.json", "the project's own cases")
	flags.StringVar(&b.outside, "cases", os.Getenv("KMS_NGWORD_CASES"), "cases of others; default $KMS_NGWORD_CASES, or "+outsideCases+" when it is there")
	flags.BoolVar(&b.peers, "peers", true, "measure the other libraries too")
	flags.DurationVar(&b.length, "time", 300*time.Millisecond, "length of each measurement of a line")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if _, err := os.Stat(outsideCases); b.outside == "" && err == nil {
		b.outside = outsideCases
	}
	for _, part := range []func() error{b.quality, b.speed, b.lists, b.hostile} {
		if err := part(); err != nil {
			fmt.Fprintln(stderr, "kms-bench-ngword:", err)
			return 1
		}
	}
	if n := b.figures.Missed(); n > 0 {
		fmt.Fprintf(stderr, "kms-bench-ngword: %d figures miss their goal\n", n)
		return 1
	}
	return 0
}
