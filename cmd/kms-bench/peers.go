package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kmsctl/kms/runtime/testkit/freeport"
)

//go:embed nchan.conf
var nchanConf string

//go:embed tornado_peer.py
var tornadoPeer []byte

// peer is a server that others would pick, or the floor, running for a while.
type peer struct {
	server
	dir    string
	tcp    string // nchan's second address
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan struct{}
}

const (
	nchanModule  = "/usr/lib/nginx/modules/ngx_nchan_module.so"
	nchanWorkers = 2 // as many as cores, nginx's own advice
)

func startFloor(ctx context.Context) (*peer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find myself: %v", err)
	}
	return startPeer(ctx, "floor", func(p *peer) (*exec.Cmd, error) {
		return exec.Command(self, "floor", p.address), nil
	})
}

// startNchan starts an nginx of its own.
func startNchan(ctx context.Context) (*peer, error) {
	return startPeer(ctx, "nchan", func(p *peer) (*exec.Cmd, error) {
		nginx, err := exec.LookPath("nginx")
		if err != nil {
			nginx = "/usr/sbin/nginx"
		}
		me, err := user.Current()
		if err != nil {
			return nil, err
		}
		if p.tcp, _, err = freeport.Claim(); err != nil {
			return nil, err
		}
		text := strings.NewReplacer("{module}", nchanModule, "{user}", me.Username, "{workers}", strconv.Itoa(nchanWorkers),
			"{dir}", p.dir, "{address}", p.tcp).Replace(nchanConf)
		conf := filepath.Join(p.dir, "nginx.conf")
		return exec.Command(nginx, "-p", p.dir, "-c", conf), os.WriteFile(conf, []byte(text), 0o644)
	})
}

func startTornado(ctx context.Context) (*peer, error) {
	return startPeer(ctx, "tornado", func(p *peer) (*exec.Cmd, error) {
		script := filepath.Join(p.dir, "peer.py")
		return exec.Command("/usr/bin/python3", script, p.address), os.WriteFile(script, tornadoPeer, 0o644)
	})
}

// startPeer runs a command that serves on p.address and returns when it takes connections.
func startPeer(ctx context.Context, name string, command func(*peer) (*exec.Cmd, error)) (*peer, error) {
	dir, err := os.MkdirTemp("/tmp", "kmsbench-"+name)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %v", name, err)
	}
	p := &peer{dir: dir, ended: make(chan struct{})}
	p.server = server{name: name, peer: name != "floor", wire: plain{}, network: "unix", address: filepath.Join(dir, name+".sock")}
	if p.cmd, err = command(p); err == nil {
		p.cmd.Stderr = &p.stderr
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		p.cmd.WaitDelay = time.Second // should a worker that lives on hold the pipe
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start %s: %v", name, err), os.RemoveAll(dir))
	}
	go func() {
		_ = p.cmd.Wait() // how it ended shows in its words
		close(p.ended)
	}()
	if err := p.awaitSocket(ctx); err != nil {
		p.close()
		return nil, err
	}
	p.pids = append([]int{p.cmd.Process.Pid}, childrenOf(p.cmd.Process.Pid)...)
	return p, nil
}

func (p *peer) awaitSocket(ctx context.Context) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		fd, err := dial(p.network, p.address)
		if err == nil {
			time.Sleep(100 * time.Millisecond) // until nginx has all its workers
			return syscall.Close(fd)
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s has ended: %s", p.name, bytes.TrimSpace(p.stderr.Bytes()))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not take connections: %v", p.name, err)
		}
	}
}

// overTCP is the same server on its TCP address.
func (p *peer) overTCP() *server {
	s := p.server
	s.name, s.network, s.address = p.name+" tcp", "tcp", p.tcp
	return &s
}

func (p *peer) close() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that has ended needs none
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		for _, pid := range p.pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone already is what we want
		}
		<-p.ended
	}
	_ = os.RemoveAll(p.dir) // it is in /tmp
}
