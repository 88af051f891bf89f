// Package irclink makes and tests the links that serve as bus, and the configuration of the IRC servers behind them. The servers
// are real ones, tuned by what their generated configuration says; who starts and watches them is not this package's business.
package irclink

import (
	"crypto/rand"
	"encoding/base32"
	"os"
	"strings"

	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/runtime/store"
)

const (
	keyBytes = 32
	channels = 64
	// InspIRCd's line as the generated configuration sets it, and everybody else's.
	inspircdLine = 4096
	plainLine    = 512
)

// NewLink returns a standby link with a new key and the limits that the generated configuration of the kind gives. A network
// configured by others may need another MaxLine and a Password.
func NewLink(name, kind string, servers []string) (store.Link, error) {
	l := store.Link{
		Name: name, Kind: kind, Servers: servers, Key: make([]byte, keyBytes), Channels: channels, MaxLine: MaxLine(kind), State: store.LinkStandby,
	}
	rand.Read(l.Key)
	if err := BusLink(l).Check(); err != nil {
		return store.Link{}, err
	}
	return l, nil
}

// MaxLine returns the bytes of a delivered line under the generated configuration.
func MaxLine(kind string) int {
	if kind == bus.InspIRCd {
		return inspircdLine
	}
	return plainLine
}

// NewPassword returns a server password that both kinds of servers take.
func NewPassword() string {
	b := make([]byte, 12)
	rand.Read(b)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// BusLink returns the stored link as the bus takes it.
func BusLink(l store.Link) bus.Link {
	return bus.Link{
		Name: l.Name, Kind: l.Kind, Servers: l.Servers, TLS: l.TLS, TLSCA: l.TLSCA, Password: l.Password, Key: l.Key,
		Channels: l.Channels, MaxLine: l.MaxLine, Active: l.State == store.LinkActive,
	}
}

// Command returns the argv that runs a server of a known kind in the foreground.
func Command(kind, program, confPath string) []string {
	if kind == bus.NgIRCd {
		return []string{program, "--nodaemon", "--config", confPath}
	}
	argv := []string{program, "--nofork", "--nopid", "--config", confPath}
	if os.Getuid() == 0 { // it refuses to run as root otherwise, and refuses the flag from anyone else
		argv = append(argv, "--runasroot")
	}
	return argv
}
