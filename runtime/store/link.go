package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// The states of a link.
const (
	LinkActive  = "active"
	LinkStandby = "standby"
)

// Link is an IRC network that serves as the bus. Key authenticates its lines; Channels is how many IRC channels the KMS channels
// are hashed onto, MaxLine the network's limit of bytes in a line.
type Link struct {
	Name, Kind        string // Kind: "inspircd" or "ngircd"
	Servers           []string
	TLS               bool
	TLSCA, Password   string
	Key               []byte
	Channels, MaxLine int
	State, Node       string
	CreatedAt         time.Time
}

// PutLink adds a link or sets it anew. One link is active: an active one puts the others on standby.
func (s *Store) PutLink(ctx context.Context, l Link) error {
	err := l.check()
	var servers []byte
	if err == nil {
		servers, err = json.Marshal(l.Servers)
	}
	if err == nil {
		err = s.Write(ctx, func(tx *Tx) error { return tx.putLink(l, string(servers)) })
	}
	if err != nil {
		return fmt.Errorf("cannot store link %q: %w", l.Name, err)
	}
	return nil
}

func (l Link) check() error {
	switch {
	case l.Name == "" || clip(l.Name, 64) != l.Name:
		return fmt.Errorf("bad name: want 1 to 64 characters")
	case len(l.Servers) == 0:
		return fmt.Errorf("no servers")
	case l.Channels <= 0 || l.MaxLine <= 0:
		return fmt.Errorf("bad limits: %d channels, lines of %d bytes", l.Channels, l.MaxLine)
	case len(l.Key) == 0 || len(l.Key) > 255:
		return fmt.Errorf("bad key: want 1 to 255 bytes")
	}
	return firstError(oneOf("link kind", l.Kind, "inspircd", "ngircd"), oneOf("link state", l.State, LinkActive, LinkStandby))
}

func (tx *Tx) putLink(l Link, servers string) error {
	created := toNullMS(l.CreatedAt)
	if !created.Valid {
		now, err := tx.NowMS()
		if err != nil {
			return err
		}
		created.Int64 = now
	}
	if l.State == LinkActive {
		if err := tx.exec(`UPDATE links SET state = ? WHERE name <> ?`, LinkStandby, l.Name); err != nil {
			return err
		}
	}
	return tx.exec(tx.dialect.upsert("links", "name", "kind servers tls tls_ca password secret irc_channels max_line state node created_at"),
		l.Name, l.Kind, servers, l.TLS, l.TLSCA, l.Password, l.Key, l.Channels, l.MaxLine, l.State, l.Node, created.Int64)
}

// Link returns one link, or ErrNotFound.
func (s *Store) Link(ctx context.Context, name string) (Link, error) {
	l, err := scanLink(s.DB().QueryRowContext(ctx, `SELECT `+linkColumns+` FROM links WHERE name = ?`, name))
	if err != nil {
		return Link{}, fmt.Errorf("cannot read link %q: %w", name, Wrap(err))
	}
	return l, nil
}

// Links returns all links, the active one first, then by name.
func (s *Store) Links(ctx context.Context) ([]Link, error) {
	list, err := collect(ctx, s.DB(), scanLink, `SELECT `+linkColumns+` FROM links ORDER BY state, name`) // "active" < "standby"
	if err != nil {
		return nil, fmt.Errorf("cannot list links: %w", err)
	}
	return list, nil
}

// DeleteLink removes a link: ErrInUse while it is the active one of several.
func (s *Store) DeleteLink(ctx context.Context, name string) error {
	err := s.Write(ctx, func(tx *Tx) error {
		var state string
		var others int
		err := Wrap(tx.scan(`SELECT state, (SELECT COUNT(*) FROM links WHERE name <> ?) FROM links WHERE name = ?`,
			[]any{name, name}, &state, &others))
		if err != nil {
			return err
		}
		if state == LinkActive && others > 0 {
			return fmt.Errorf("%w: it is the active link; make another one active first", ErrInUse)
		}
		return tx.exec(`DELETE FROM links WHERE name = ?`, name)
	})
	if err != nil {
		return fmt.Errorf("cannot delete link %q: %w", name, err)
	}
	return nil
}

const linkColumns = `name, kind, servers, tls, tls_ca, password, secret, irc_channels, max_line, state, node, created_at`

func scanLink(row scanner) (Link, error) {
	var l Link
	var servers []byte
	var created int64
	err := row.Scan(&l.Name, &l.Kind, &servers, &l.TLS, &l.TLSCA, &l.Password, &l.Key, &l.Channels, &l.MaxLine, &l.State, &l.Node, &created)
	if err != nil {
		return l, err
	}
	l.CreatedAt = fromMS(created)
	return l, json.Unmarshal(servers, &l.Servers)
}
