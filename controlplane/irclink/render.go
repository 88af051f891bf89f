package irclink

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/templates"
)

// ServerOptions say what a generated configuration holds. Secrets end up in it: write it with mode 0600.
type ServerOptions struct {
	Name     string // the server's own, with a dot: irc.kms.internal
	Listen   string // host:port for clients; the host is an address, or empty for all
	Password string // that clients give; empty: none
	Dir      string // absolute; InspIRCd's log goes there
	TLS      *TLS   // clients and peers speak TLS; nil: plain

	LinkListen   string // host:port for other servers; empty: not linked
	LinkPassword string // the same on all servers of the network
	Peers        []Peer
}

// TLS names PEM files by absolute paths.
type TLS struct{ Cert, Key string }

// Peer is another server of the network. Of two servers one connects to the other.
type Peer struct {
	Name    string
	Address string // host:port of its LinkListen; the host is an address
	Connect bool
}

var (
	serverName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)+$`)
	password   = regexp.MustCompile(`^[!-~]{0,64}$`)
	filePath   = regexp.MustCompile(`^/[A-Za-z0-9/._+@-]*$`)
)

const maxServerName = 63

var configurations = template.Must(template.ParseFS(templates.FS, "irc/*.conf.tmpl"))

// Render returns the configuration of a server, tuned as a bus. What would break out of its place in the file is refused.
func Render(kind string, o ServerOptions) ([]byte, error) {
	if kind != bus.InspIRCd && kind != bus.NgIRCd {
		return nil, fmt.Errorf("cannot configure an IRC server of kind %q: want %s or %s", kind, bus.InspIRCd, bus.NgIRCd)
	}
	data, err := values(kind, o)
	if err != nil {
		return nil, fmt.Errorf("cannot configure IRC server %q: %w", o.Name, err)
	}
	var out bytes.Buffer
	if err := configurations.ExecuteTemplate(&out, kind+".conf.tmpl", data); err != nil {
		return nil, fmt.Errorf("cannot configure IRC server %q: %w", o.Name, err)
	}
	return out.Bytes(), nil
}

type endpoint struct{ Name, Host, Port string }

type peerValues struct {
	endpoint
	Connect bool
}

// values checks the options and returns what the templates show, escaped for the kind.
func values(kind string, o ServerOptions) (map[string]any, error) {
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	client, err := address(o.Listen)
	if err != nil {
		return nil, err
	}
	if !password.MatchString(o.Password) || !password.MatchString(o.LinkPassword) {
		return nil, fmt.Errorf("bad password: want at most 64 visible ASCII characters")
	}
	paths := []string{o.Dir}
	if o.TLS != nil {
		paths = append(paths, o.TLS.Cert, o.TLS.Key)
	}
	for _, p := range paths {
		if !filePath.MatchString(p) {
			return nil, fmt.Errorf("bad path %q: want an absolute path of letters, digits and . _ + @ -", p)
		}
	}
	var link endpoint
	if o.LinkListen != "" {
		if link, err = address(o.LinkListen); err != nil {
			return nil, err
		}
	}
	peers, err := peersOf(o)
	if err != nil {
		return nil, err
	}
	listen, ports := listenOf(o, client, link)
	return map[string]any{
		"Name": o.Name, "ID": serverID(o.Name), "Network": "kms", "Host": client.Host, "Port": client.Port,
		"Password": escape(kind, o.Password), "Allow": allow(client.Host), "MaxLine": MaxLine(kind), "Log": filepath.Join(o.Dir, "irc.log"),
		"TLS": o.TLS, "LinkHost": linkHost(kind, link), "LinkPort": link.Port, "LinkPassword": escape(kind, o.LinkPassword), "Peers": peers,
		"Listen": listen, "Ports": ports,
	}, nil
}

func checkName(name string) error {
	if len(name) > maxServerName || !serverName.MatchString(name) {
		return fmt.Errorf("bad server name %q: want a lower-case host name with a dot, at most %d bytes", name, maxServerName)
	}
	return nil
}

// address takes host:port apart; the host is an IP address or empty.
func address(s string) (endpoint, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return endpoint{}, fmt.Errorf("bad address %q: want host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return endpoint{}, fmt.Errorf("bad address %q: want a port of 1 to 65535", s)
	}
	if host != "" && net.ParseIP(host) == nil {
		return endpoint{}, fmt.Errorf("bad address %q: want an IP address, not a name", s)
	}
	return endpoint{Host: host, Port: port}, nil
}

func peersOf(o ServerOptions) ([]peerValues, error) {
	if len(o.Peers) > 0 && (o.LinkListen == "" || o.LinkPassword == "") {
		return nil, fmt.Errorf("peers need an address for servers and a password")
	}
	var peers []peerValues
	for _, p := range o.Peers {
		if err := checkName(p.Name); err != nil {
			return nil, err
		}
		e, err := address(p.Address)
		if err != nil {
			return nil, err
		}
		if e.Host == "" {
			return nil, fmt.Errorf("bad address %q of server %q: want an IP address", p.Address, p.Name)
		}
		e.Name = p.Name
		peers = append(peers, peerValues{endpoint: e, Connect: p.Connect})
	}
	return peers, nil
}

// listenOf returns ngIRCd's addresses and plain ports: it listens for clients and servers alike on each of its ports.
func listenOf(o ServerOptions, client, link endpoint) (listen, ports string) {
	listen, ports = client.Host, client.Port
	if listen == "" {
		listen = "0.0.0.0"
	}
	if o.TLS != nil {
		ports = "0" // none in the clear
	}
	if o.LinkListen == "" {
		return listen, ports
	}
	if link.Host != "" && link.Host != client.Host {
		listen += "," + link.Host
	}
	if o.TLS == nil && link.Port != client.Port {
		ports += "," + link.Port
	}
	return listen, ports
}

// linkHost is InspIRCd's address for servers, where empty means not linked.
func linkHost(kind string, link endpoint) string {
	if kind == bus.InspIRCd && link.Port != "" && link.Host == "" {
		return "*"
	}
	return link.Host
}

// allow keeps everybody but this host out of a server that listens on loopback only.
func allow(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		if ip.To4() == nil {
			return "::1/128"
		}
		return "127.0.0.0/8"
	}
	return "*"
}

// serverID returns a digit and two letters, InspIRCd's id of a server, unlike those of the network's others.
func serverID(name string) string {
	h := fnv.New32a()
	h.Write([]byte(name))
	n := h.Sum32()
	return string([]byte{'0' + byte(n%10), 'A' + byte(n/10%26), 'A' + byte(n/260%26)})
}

// escape makes a value stand for itself in InspIRCd's quotes. ngIRCd takes a line's rest as it is.
func escape(kind, value string) string {
	if kind != bus.InspIRCd {
		return value
	}
	return strings.NewReplacer("&", "&amp;", `"`, "&quot;").Replace(value)
}
