package testkit

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// MySQL makes an empty database on the server that KMS_TEST_MYSQL names (mysql://user:password@host:port/) and returns its URL.
// The database is dropped when the test ends.
func MySQL(t testing.TB) string {
	t.Helper()
	server := os.Getenv("KMS_TEST_MYSQL")
	if server == "" {
		missing(t, "KMS_TEST_MYSQL is not set")
	}
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "mysql" || u.User == nil || u.Port() == "" {
		t.Fatal("KMS_TEST_MYSQL is not of the form mysql://user:password@host:port/")
	}
	c := mysql.NewConfig()
	c.Net, c.Addr = "tcp", u.Host
	c.User = u.User.Username()
	c.Passwd, _ = u.User.Password()
	c.Timeout = 5 * time.Second
	db, err := sql.Open("mysql", c.FormatDSN())
	if err != nil {
		t.Fatalf("cannot open the database server of KMS_TEST_MYSQL: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	name := "kmstest_" + randomHex()
	if _, err := db.ExecContext(ctx, "CREATE DATABASE `"+name+"` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"); err != nil {
		db.Close()
		t.Fatalf("cannot create database %q: %v", name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := db.ExecContext(ctx, "DROP DATABASE `"+name+"`"); err != nil {
			t.Errorf("cannot drop database %q: %v", name, err)
		}
		db.Close()
	})
	u.Path, u.RawQuery = "/"+name, ""
	return u.String()
}

func randomHex() string {
	b := make([]byte, 8)
	rand.Read(b)
	return hex.EncodeToString(b)
}
