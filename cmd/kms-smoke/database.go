package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// makeDatabase makes an empty database on the server at mysql://user:password@host:port/ and returns its URL and what drops it.
func makeDatabase(ctx context.Context, server string) (store string, drop func() error, err error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "mysql" || u.User == nil || u.Port() == "" {
		return "", nil, errors.New("cannot use KMS_TEST_MYSQL: want mysql://user:password@host:port/")
	}
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Timeout = "tcp", u.Host, u.User.Username(), 5*time.Second
	c.Passwd, _ = u.User.Password()
	db, err := sql.Open("mysql", c.FormatDSN())
	if err != nil {
		return "", nil, fmt.Errorf("cannot open the database server: %v", err)
	}
	name := "kmssmoke_" + strings.ToLower(rand.Text()[:12])
	if _, err := db.ExecContext(ctx, "CREATE DATABASE `"+name+"` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"); err != nil {
		return "", nil, errors.Join(fmt.Errorf("cannot make database %q: %v", name, err), db.Close())
	}
	u.Path, u.RawQuery = "/"+name, ""
	return u.String(), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := db.ExecContext(ctx, "DROP DATABASE `"+name+"`")
		return errors.Join(err, db.Close())
	}, nil
}
