package store

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
)

// target is a parsed store URL: an SQLite path, or a MySQL address.
type target struct {
	path  string
	mysql mysqlTarget
}

type mysqlTarget struct{ user, password, addr, database string }

// parseURL never repeats the URL in an error: it may hold a password.
func parseURL(raw string) (target, error) {
	if path, ok := strings.CutPrefix(raw, "sqlite:"); ok {
		if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) || strings.HasSuffix(path, "/") {
			return target{}, fmt.Errorf("bad path %q: want sqlite:/absolute/path/kms.db", path)
		}
		return target{path: filepath.Clean(path)}, nil
	}
	my, err := parseMySQL(raw)
	return target{mysql: my}, err
}

func parseMySQL(raw string) (mysqlTarget, error) {
	const want = "want mysql://user:password@host:port/database, special characters percent-encoded"
	if !strings.HasPrefix(raw, "mysql://") {
		return mysqlTarget{}, errors.New("bad store URL: want sqlite:/absolute/path/kms.db or mysql://user:password@host:port/database")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return mysqlTarget{}, errors.New("bad mysql URL: " + want)
	}
	database := strings.TrimPrefix(u.Path, "/")
	switch {
	case u.User == nil || u.User.Username() == "":
		return mysqlTarget{}, errors.New("bad mysql URL: no user; " + want)
	case u.Hostname() == "":
		return mysqlTarget{}, errors.New("bad mysql URL: no host; " + want)
	case database == "" || strings.Contains(database, "/"):
		return mysqlTarget{}, errors.New("bad mysql URL: no database; " + want)
	case u.RawQuery != "" || u.Fragment != "":
		return mysqlTarget{}, errors.New("bad mysql URL: it takes no options; " + want)
	}
	port := u.Port()
	if port == "" {
		port = "3306"
	}
	password, _ := u.User.Password()
	return mysqlTarget{user: u.User.Username(), password: password, addr: net.JoinHostPort(u.Hostname(), port), database: database}, nil
}

// Redact returns a store URL that is safe to print: without a password.
func Redact(raw string) string {
	if strings.HasPrefix(raw, "sqlite:") {
		return raw
	}
	my, err := parseMySQL(raw)
	if err != nil {
		scheme, _, found := strings.Cut(raw, "://")
		if !found {
			return "…"
		}
		return scheme + "://…"
	}
	return (&url.URL{Scheme: "mysql", User: url.User(my.user), Host: my.addr, Path: "/" + my.database}).String()
}
