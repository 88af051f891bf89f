package irclink

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Network says of which servers a linked network consists. Each knows all others and connects to those before it, so that any one
// may go and the rest stay together or find each other again.
type Network struct {
	Kind         string
	Servers      []NetworkServer
	LinkOffset   int    // servers listen for each other that many ports above the one for clients
	Password     string // that clients give
	LinkPassword string
	LogDir       string // absolute
	TLS          *TLS   // for clients and between servers; nil: plain
}

// NetworkServer is one of them.
type NetworkServer struct {
	Name    string // irc1; a name without a dot stands for that name under kms.internal
	Address string // host:port for clients, the host an IP address that the others reach
}

// ServerFiles is what one server's host gets.
type ServerFiles struct {
	Name   string
	Config []byte // with both passwords in it
	Unit   []byte // drop-in for the server's systemd unit
}

const domain = ".kms.internal"

// ParseServer reads name=host:port.
func ParseServer(text string) (NetworkServer, error) {
	name, address, ok := strings.Cut(text, "=")
	if !ok {
		return NetworkServer{}, fmt.Errorf("bad server %q: want NAME=HOST:PORT", text)
	}
	return NetworkServer{Name: name, Address: address}, nil
}

// Configure returns the files of all servers, in their order.
func (n Network) Configure() ([]ServerFiles, error) {
	if len(n.Servers) == 0 {
		return nil, fmt.Errorf("cannot configure a network without servers")
	}
	if err := n.checkDistinct(); err != nil {
		return nil, err
	}
	var all []ServerFiles
	for i, s := range n.Servers {
		o, err := n.options(i)
		if err != nil {
			return nil, fmt.Errorf("cannot configure IRC server %q: %w", s.Name, err)
		}
		config, err := Render(n.Kind, o)
		if err != nil {
			return nil, err
		}
		unit, err := unitOf(o)
		if err != nil {
			return nil, err
		}
		all = append(all, ServerFiles{Name: s.Name, Config: config, Unit: unit})
	}
	return all, nil
}

// checkDistinct refuses servers that would be taken for each other; InspIRCd's short ids are made from the names.
func (n Network) checkDistinct() error {
	for i, s := range n.Servers {
		for _, o := range n.Servers[:i] {
			switch {
			case fullName(s.Name) == fullName(o.Name):
				return fmt.Errorf("bad servers: two are called %q", s.Name)
			case s.Address == o.Address:
				return fmt.Errorf("bad servers: %q and %q have the same address %s", o.Name, s.Name, s.Address)
			case serverID(fullName(s.Name)) == serverID(fullName(o.Name)):
				return fmt.Errorf("bad servers: %q and %q get the same id, call one of them something else", o.Name, s.Name)
			}
		}
	}
	return nil
}

func fullName(name string) string {
	if strings.Contains(name, ".") {
		return name
	}
	return name + domain
}

// options are those of server i. A network of one is not linked.
func (n Network) options(i int) (ServerOptions, error) {
	o := ServerOptions{Name: fullName(n.Servers[i].Name), Listen: n.Servers[i].Address, Password: n.Password, Dir: n.LogDir, TLS: n.TLS}
	if len(n.Servers) == 1 {
		return o, nil
	}
	o.LinkPassword = n.LinkPassword
	for j, s := range n.Servers {
		link, err := n.linkAddress(s.Address)
		if err != nil {
			return o, err
		}
		if j == i {
			o.LinkListen = link
			continue
		}
		o.Peers = append(o.Peers, Peer{Name: fullName(s.Name), Address: link, Connect: j < i})
	}
	return o, nil
}

func (n Network) linkAddress(client string) (string, error) {
	e, err := address(client)
	if err != nil {
		return "", err
	}
	if e.Host == "" {
		return "", fmt.Errorf("bad address %q: want an IP address that the other servers reach", client)
	}
	port, err := strconv.Atoi(e.Port)
	if err != nil || port+n.LinkOffset > 65535 || n.LinkOffset < 1 {
		return "", fmt.Errorf("bad address %q: servers would meet on port %d, want 1 to 65535", client, port+n.LinkOffset)
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(port+n.LinkOffset)), nil
}

// unitOf renders the drop-in. systemd wants a dollar twice.
func unitOf(o ServerOptions) ([]byte, error) {
	var hosts, commands []string
	for _, p := range o.Peers {
		if host, _, err := net.SplitHostPort(p.Address); err == nil && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
			commands = append(commands, strings.ReplaceAll(QuickAck(host), "$", "$$"))
		}
	}
	var out bytes.Buffer
	if err := configurations.ExecuteTemplate(&out, "systemd.conf.tmpl", map[string]any{"Name": o.Name, "QuickAck": commands}); err != nil {
		return nil, fmt.Errorf("cannot write the unit of IRC server %q: %w", o.Name, err)
	}
	return out.Bytes(), nil
}
