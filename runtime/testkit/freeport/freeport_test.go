package freeport

import (
	"net"
	"testing"
)

func TestClaim_isNobodyElses(t *testing.T) {
	address, release, err := Claim(1000)
	if err != nil {
		t.Fatal(err)
	}
	port := portOf(t, address)
	if port < lowest || port >= lowest+count {
		t.Errorf("port %d", port)
	}
	for _, port := range []int{port, port + 1000} {
		var other claims
		if other.take(port) {
			t.Errorf("port %d was given twice", port)
		}
		other.release()
	}
	if l, err := net.Listen("tcp", address); err != nil {
		t.Errorf("who claimed it cannot listen there: %v", err)
	} else {
		l.Close()
	}
	release()
	var again claims
	if !again.take(port) || !again.take(port+1000) {
		t.Error("nobody gets what was released")
	}
	again.release()
}

func TestClaim_leavesWhatIsTaken(t *testing.T) {
	address, release, err := Claim()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	release() // somebody who never claimed it listens there now
	var c claims
	defer func() { c.release() }()
	if c.take(portOf(t, address)) {
		t.Error("a port with a server was given")
	}
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}
