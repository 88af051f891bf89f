package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kmsctl/kms/runtime/plugin/pb"
)

// ClaimWithin is how long an instance waits to be configured. Its host may have died before it wrote down that we exist.
const ClaimWithin = 30 * time.Second

// termGrace is what SIGTERM, or a host that shuts the plugin down, leaves for an orderly stop.
const termGrace = 5 * time.Second

// Serve makes this process the instance `role` of a build and answers the control plane through impl until it is stopped:
// by Stop, by SIGTERM (which calls impl.Stop), or for want of a Configure within ClaimWithin. Then it returns and main should
// too. It goes on without a host. Panics of a call are answered as Internal.
func Serve(role string, impl pb.InstanceServer) { serve(role, impl, ClaimWithin) }

func serve(role string, impl pb.InstanceServer, claim time.Duration) {
	if os.Getenv(Handshake.MagicCookieKey) != Handshake.MagicCookieValue {
		fmt.Fprintf(os.Stderr, "cannot serve %q: the KMS control plane starts this, try: kmsctl deploy %s\n", role, os.Args[0])
		os.Exit(2)
	}
	io := begin()
	os.WriteFile("/proc/self/comm", []byte("kms-"+role), 0) // executed as /proc/self/fd/N we would be called N; ps is for people
	c := &child{
		impl: impl,
		io:   io,
		log:  slog.New(slog.NewJSONHandler(io.log, nil)).With("role", role, "pid", os.Getpid()),
		wait: claim,
	}
	c.claim = time.AfterFunc(claim, c.unclaimed)
	term := make(chan os.Signal, 2)
	signal.Notify(term, syscall.SIGTERM) // before the host can know that there is somebody to signal
	go c.onTerm(term)

	os.Stdout = io.handshake // go-plugin prints its line there, then puts a pipe of its own in its place
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  Handshake,
		VersionedPlugins: sets(impl),
		GRPCServer:       c.newServer,
		Logger:           hclog.New(&hclog.LoggerOptions{Output: io.log, Level: hclog.Error, JSONFormat: true}),
	})
	c.claim.Stop()
	c.stopImpl("the host shut the plugin down")
}

// child is one serving instance.
type child struct {
	impl pb.InstanceServer
	io   stdio
	log  *slog.Logger
	wait time.Duration

	claim     *time.Timer
	stopping  sync.Once
	handshook sync.Once

	mu     sync.Mutex
	server *grpc.Server
}

func (c *child) newServer(opts []grpc.ServerOption) *grpc.Server {
	s := grpc.NewServer(append(opts,
		grpc.ChainUnaryInterceptor(c.unary),
		grpc.ChainStreamInterceptor(c.recoverStream, drainStdio(c.io.log)),
	)...)
	c.mu.Lock()
	c.server = s
	c.mu.Unlock()
	return s
}

// unary watches the calls that decide over the process's life.
func (c *child) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (reply any, err error) {
	// A call proves that the host has read the handshake; an open pipe would only tell it lies later.
	c.handshook.Do(func() { c.io.handshake.Close() })
	defer c.recovered(info.FullMethod, &err)
	switch info.FullMethod {
	case pb.Instance_Configure_FullMethodName:
		c.claim.Stop()
		if reply, err = next(ctx, req); err != nil {
			c.claim.Reset(c.wait)
		}
	case pb.Instance_Stop_FullMethodName:
		ran := false
		c.stopping.Do(func() { ran = true; reply, err = next(ctx, req) })
		if !ran {
			reply = &pb.StopReply{}
		}
		time.AfterFunc(20*time.Millisecond, c.close) // after the answer is on its way
	default:
		reply, err = next(ctx, req)
	}
	return reply, err
}

func (c *child) recoverStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer c.recovered(info.FullMethod, &err)
	return next(srv, ss)
}

// recovered keeps a bug in one call of the contract from closing every chat connection.
func (c *child) recovered(method string, err *error) {
	if p := recover(); p != nil {
		c.log.Error("internal error: a call panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = status.Errorf(codes.Internal, "internal error: %s panicked", method)
	}
}

// close ends Serve.
func (c *child) close() {
	c.mu.Lock()
	s := c.server
	c.mu.Unlock()
	if s == nil {
		os.Exit(0) // told to stop before there was anything to stop
	}
	s.Stop()
}

func (c *child) unclaimed() {
	c.log.Error("not configured in time, leaving: the host that started this is gone", "after", c.wait.String())
	c.close()
}

func (c *child) onTerm(ch <-chan os.Signal) {
	<-ch
	c.log.Info("terminated, stopping")
	go func() {
		select {
		case <-ch:
		case <-time.After(termGrace + time.Second):
		}
		os.Exit(1) // impl.Stop did not keep its deadline
	}()
	c.stopImpl("terminated")
	c.close()
}

// stopImpl runs impl.Stop once in the life of the process, whoever asks first.
func (c *child) stopImpl(why string) {
	c.stopping.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), termGrace)
		defer cancel()
		if _, err := c.impl.Stop(ctx, &pb.StopRequest{DeadlineMs: termGrace.Milliseconds(), Message: why}); err != nil {
			c.log.Error("cannot stop in order", "error", err.Error())
		}
	})
}
