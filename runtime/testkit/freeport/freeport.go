// Package freeport gives programs that start servers on loopback, which are tests and benchmarks, addresses that stay theirs: also
// while nobody listens there, as before a server's start and between its end and the next.
package freeport

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
)

// Ports are below those that outgoing connections are given (net.ipv4.ip_local_port_range begins at 32768), or one of these would
// have ours now and then, and 1,000 below those that .ci/with-mariadb tries, for the ports above an address.
const (
	lowest = 10000
	count  = 9000
)

// Claim returns an address of 127.0.0.1 that nobody listens on and that no other caller gets, in this process or another, until
// release is called or this process ends. The same holds for the ports that many above it.
func Claim(above ...int) (address string, release func(), err error) {
	for range 1000 {
		port := lowest + rand.IntN(count)
		var held claims
		if held.take(port) && held.takeAll(port, above) {
			return loopback(port), held.release, nil
		}
		held.release()
	}
	return "", nil, errors.New("cannot find a free port of 127.0.0.1")
}

// claims are names of abstract unix sockets, which the kernel gives to one process and takes back when it dies, however it does.
type claims []io.Closer

func (c *claims) takeAll(base int, above []int) bool {
	for _, offset := range above {
		if !c.take(base + offset) {
			return false
		}
	}
	return true
}

// take reports whether the port is ours from now on.
func (c *claims) take(port int) bool {
	name, err := net.Listen("unix", fmt.Sprintf("@kms-port-%d", port))
	if err != nil {
		return false
	}
	*c = append(*c, name)
	l, err := net.Listen("tcp4", loopback(port))
	return err == nil && l.Close() == nil
}

func (c claims) release() {
	for _, name := range c {
		name.Close()
	}
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
