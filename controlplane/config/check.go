package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

func notEmpty(s string) error {
	if s == "" {
		return errors.New("it may not be empty")
	}
	return nil
}

func hostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("want host:port, as 127.0.0.1:8080")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return errors.New("want a port of 1 to 65535")
	}
	if net.ParseIP(host) == nil && host != "localhost" {
		return errors.New("want an IP address before the port")
	}
	return nil
}

func duration(s string) error {
	if d, err := time.ParseDuration(s); err != nil || d < 0 {
		return errors.New("want a duration, as 90s or 10m")
	}
	return nil
}

func positive(s string) error {
	if f, err := strconv.ParseFloat(s, 64); err != nil || !(f > 0 && f < 1e9) {
		return errors.New("want a number above 0")
	}
	return nil
}

func atLeast(low int) func(string) error {
	return func(s string) error {
		if n, err := strconv.Atoi(s); err != nil || n < low || n > 1<<20 {
			return fmt.Errorf("want a whole number of at least %d", low)
		}
		return nil
	}
}

func oneOf(allowed ...string) func(string) error {
	return func(s string) error {
		if slices.Contains(allowed, s) {
			return nil
		}
		return fmt.Errorf("want one of %s", strings.Trim(strings.Join(allowed, ", "), ", "))
	}
}

func storeURL(s string) error {
	if s == "" || strings.HasPrefix(s, "sqlite:/") || strings.HasPrefix(s, "mysql://") {
		return nil
	}
	return errors.New("want sqlite:/path/kms.db or mysql://user@host:port/database")
}
