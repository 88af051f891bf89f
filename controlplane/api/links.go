package api

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/store"
)

var linkName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

func linkInfo(l store.Link) controlplane.LinkInfo {
	return controlplane.LinkInfo{Name: l.Name, Kind: l.Kind, Servers: l.Servers, TLS: l.TLS, Channels: l.Channels, MaxLine: l.MaxLine, State: l.State, CreatedAt: l.CreatedAt}
}

func getLinks(c *call) (any, error) {
	links, err := c.Store().Links(c.ctx)
	out := make([]controlplane.LinkInfo, 0, len(links))
	for _, l := range links {
		out = append(out, linkInfo(l))
	}
	return out, err
}

// postLink adds a link with a key of its own. The first link of all becomes active by itself.
func postLink(c *call) (any, error) {
	var r controlplane.LinkRequest
	if err := c.decode(&r, maxBody); err != nil {
		return nil, err
	}
	c.subject = r.Name
	if err := checkLink(&r); err != nil {
		return nil, err
	}
	links, err := c.Store().Links(c.ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if l.Name == r.Name {
			return nil, &statusError{409, controlplane.Errorf(controlplane.Failed, "cannot add link %q: it exists", r.Name).WithHint("kmsctl irc link list")}
		}
	}
	key := make([]byte, 32)
	rand.Read(key) // never fails: crypto/rand ends the program instead
	link := store.Link{Name: r.Name, Kind: r.Kind, Servers: r.Servers, TLS: r.TLS, TLSCA: r.TLSCA, Password: r.Password, Key: key,
		Channels: r.Channels, MaxLine: r.MaxLine, State: store.LinkStandby}
	if r.Active || len(links) == 0 {
		link.State = store.LinkActive
	}
	if err := c.Store().PutLink(c.ctx, link); err != nil {
		return nil, err
	}
	if link, err = c.Store().Link(c.ctx, link.Name); err != nil {
		return nil, err
	}
	return linkInfo(link), c.LinksChanged(c.ctx)
}

// checkLink fills in what depends on the kind and refuses what no IRC server could be reached with.
func checkLink(r *controlplane.LinkRequest) error {
	if !linkName.MatchString(r.Name) {
		return badRequest("bad link %q: want %s", clip(r.Name, 80), linkName)
	}
	if err := oneOf("kind", r.Kind, "inspircd", "ngircd"); err != nil {
		return err
	}
	if len(r.Servers) == 0 || len(r.Servers) > 16 {
		return badRequest("bad servers: want 1 to 16 addresses as irc.example.net:6697")
	}
	for _, s := range r.Servers {
		host, port, err := net.SplitHostPort(s)
		if n, e := strconv.Atoi(port); err != nil || e != nil || n < 1 || n > 65535 || host == "" || strings.ContainsAny(host, " \t\r\n\x00/") {
			return badRequest("bad server %q: want host:port", clip(s, 80))
		}
	}
	if strings.ContainsAny(r.Password, " \r\n\x00") || strings.HasPrefix(r.Password, ":") || len(r.Password) > 200 {
		return badRequest("bad password: want at most 200 bytes without spaces and line ends, not beginning with a colon")
	}
	if r.TLSCA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(r.TLSCA)) {
		return badRequest("bad tls_ca: it holds no certificate in PEM")
	}
	return checkLinkSize(r)
}

// checkLinkSize knows the servers' line limits: InspIRCd's as the tuned configuration sets it, ngIRCd's fixed one.
func checkLinkSize(r *controlplane.LinkRequest) error {
	if r.Channels == 0 {
		r.Channels = 64
	}
	if r.MaxLine == 0 {
		r.MaxLine = 512
		if r.Kind == "inspircd" {
			r.MaxLine = 4096
		}
	}
	if r.Channels < 1 || r.Channels > 4096 {
		return badRequest("bad channels %d: want 1 to 4096", r.Channels)
	}
	if r.MaxLine < 512 || r.MaxLine > 16384 || r.Kind == "ngircd" && r.MaxLine != 512 {
		return badRequest("bad max_line %d: want 512 to 16384, and 512 for ngircd", r.MaxLine)
	}
	return nil
}

func (c *call) link() (*store.Link, error) { return c.linkNamed(c.r.PathValue("link")) }

func (c *call) linkNamed(name string) (*store.Link, error) {
	if !linkName.MatchString(name) {
		return nil, badRequest("bad link %q: want %s", clip(name, 80), linkName)
	}
	l, err := c.Store().Link(c.ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		err = controlplane.Errorf(controlplane.NotFound, "there is no link %q", name).WithHint("kmsctl irc link list")
	}
	return &l, err
}

// deleteLink leaves it to the store to keep the active link while there are others.
func deleteLink(c *call) (any, error) {
	l, err := c.link()
	if err != nil {
		return nil, err
	}
	if err := c.Store().DeleteLink(c.ctx, l.Name); errors.Is(err, store.ErrInUse) {
		return nil, controlplane.Errorf(controlplane.InUse, "%v", err).WithHint("kmsctl irc link activate OTHER")
	} else if err != nil {
		return nil, err
	}
	return nil, c.LinksChanged(c.ctx)
}

func activateLink(c *call) (any, error) {
	l, err := c.link()
	if err != nil {
		return nil, err
	}
	l.State = store.LinkActive // which puts the others on standby
	if err := c.Store().PutLink(c.ctx, *l); err != nil {
		return nil, err
	}
	return nil, c.LinksChanged(c.ctx)
}

func testLink(c *call) (any, error) {
	l, err := c.link()
	if err != nil {
		return nil, err
	}
	return c.TestLink(c.ctx, l.Name)
}

func getBus(c *call) (any, error) {
	status, err := c.Bus(c.ctx)
	return some(status), err
}

func pingBus(c *call) (any, error) { return c.PingBus(c.ctx) }
