package bus

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/kmsctl/kms/runtime/plugin/pb"
)

// Kinds of IRC servers whose habits the bus knows.
const (
	InspIRCd = "inspircd"
	NgIRCd   = "ngircd"
)

// Link is one IRC network and what it takes to speak on it. The fields are those of the contract's Link.
type Link struct {
	Name     string
	Kind     string   // InspIRCd or NgIRCd
	Servers  []string // host:port, tried in turn
	TLS      bool
	TLSCA    string // PEM; empty: the system's roots
	Password string
	Key      []byte // HMAC key, the same in every process
	Channels int    // IRC channels that KMS channels are hashed onto, the same in every process
	MaxLine  int    // bytes of a delivered line with prefix and CRLF; 0: what the server says, or 512
	Active   bool
}

const (
	minKey      = 16
	maxChannels = 20000
	minLine     = 512
	maxLine     = 16384
)

// FromPB takes over a link of the plugin contract.
func FromPB(l *pb.Link) Link {
	return Link{
		Name: l.GetName(), Kind: l.GetKind(), Servers: slices.Clone(l.GetServers()), TLS: l.GetTls(), TLSCA: l.GetTlsCa(),
		Password: l.GetPassword(), Key: slices.Clone(l.GetKey()), Channels: int(l.GetChannels()), MaxLine: int(l.GetMaxLine()),
		Active: l.GetActive(),
	}
}

// Active returns the first active link, and the zero Link when none is: a bus on it stays down.
func Active(links []Link) Link {
	for _, l := range links {
		if l.Active {
			return l
		}
	}
	return Link{}
}

// Check tells what is wrong with the link, without any of its secrets.
func (l Link) Check() error {
	switch {
	case l.Kind != InspIRCd && l.Kind != NgIRCd:
		return fmt.Errorf("cannot use link %q: unknown kind %q, want %s or %s", l.Name, l.Kind, InspIRCd, NgIRCd)
	case len(l.Servers) == 0:
		return fmt.Errorf("cannot use link %q: it names no server", l.Name)
	case len(l.Key) < minKey:
		return fmt.Errorf("cannot use link %q: its key has %d bytes, want at least %d", l.Name, len(l.Key), minKey)
	case l.Channels < 1 || l.Channels > maxChannels:
		return fmt.Errorf("cannot use link %q: %d channels, want 1 to %d", l.Name, l.Channels, maxChannels)
	case l.MaxLine != 0 && (l.MaxLine < minLine || l.MaxLine > maxLine):
		return fmt.Errorf("cannot use link %q: lines of %d bytes, want %d to %d", l.Name, l.MaxLine, minLine, maxLine)
	case strings.ContainsAny(l.Password, "\x00\r\n") || len(l.Password) > 300:
		return fmt.Errorf("cannot use link %q: the password has a line break or NUL, or over 300 bytes", l.Name)
	}
	for _, server := range l.Servers {
		if err := checkServer(server); err != nil {
			return fmt.Errorf("cannot use link %q: %w", l.Name, err)
		}
	}
	if l.TLSCA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(l.TLSCA)) {
		return fmt.Errorf("cannot use link %q: its CA holds no PEM certificate", l.Name)
	}
	return nil
}

func checkServer(server string) error {
	host, port, err := net.SplitHostPort(server)
	if err != nil || host == "" || strings.ContainsAny(host, " \t\x00\r\n/") {
		return fmt.Errorf("bad server %q: want host:port", server)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("bad server " + strconv.Quote(server) + ": want a port of 1 to 65535")
	}
	return nil
}

// sameNetwork reports whether a connection made for l also serves o: everything but the choice of servers agrees.
func (l Link) sameNetwork(o Link) bool {
	return l.Name == o.Name && l.Kind == o.Kind && l.TLS == o.TLS && l.TLSCA == o.TLSCA && l.Password == o.Password &&
		string(l.Key) == string(o.Key) && l.Channels == o.Channels && l.MaxLine == o.MaxLine
}

// control is the IRC channel that every process is on: wake-ups travel there, and who leaves it has gone.
const control = "#kms"

// channelName returns the IRC channel of a hash value; 0 is the control channel.
func channelName(index int) string {
	if index == 0 {
		return control
	}
	return control + "." + strconv.Itoa(index)
}

// channelIndex is channelName's inverse, -1 for a name that is none of ours.
func channelIndex(name []byte) int {
	rest, ok := strings.CutPrefix(string(name), control)
	if !ok {
		return -1
	}
	if rest == "" {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimPrefix(rest, "."))
	if err != nil || n < 1 || rest[0] != '.' {
		return -1
	}
	return n
}

// index hashes a KMS channel onto one of the link's IRC channels: FNV-1a over tenant, NUL and channel, then mixed, since its
// low bits alone spread names badly. All processes must agree on it, those of other builds too: it never changes.
func (l Link) index(tenant, channel string) int {
	if channel == "" {
		return 0
	}
	h := uint32(2166136261)
	for i := range len(tenant) {
		h = (h ^ uint32(tenant[i])) * 16777619
	}
	h *= 16777619 // NUL between the two
	for i := range len(channel) {
		h = (h ^ uint32(channel[i])) * 16777619
	}
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	return int(h%uint32(l.Channels)) + 1
}
