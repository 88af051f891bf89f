// Command kmsctl deploys, lists, rolls back and retires server versions and manages a KMS host. It parses, makes one call to
// the control API, and prints; `up` and `server` run the control plane itself. Exit codes are those of controlplane.Kind.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
