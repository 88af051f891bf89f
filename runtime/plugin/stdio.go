package plugin

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// stdio holds a child's own handles: they stay valid while go-plugin swaps os.Stdout and os.Stderr for pipes.
type stdio struct {
	log       *os.File // a copy of descriptor 2
	handshake *os.File // a copy of the descriptor 1 the host reads
}

// Begin moves standard output out of harm's way and returns the log. Call it first thing in a build's `ua` and `api`: a line
// that reaches the host before the handshake breaks it. Log to the returned file only, never to os.Stdout or os.Stderr, which
// go-plugin replaces while others may be writing. Safe to call again.
func Begin() *os.File { return begin().log }

var begin = sync.OnceValue(func() stdio {
	// A host that goes away must not take us along. Caught, not ignored: what we start would inherit an ignored SIGPIPE.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	out, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		err = unix.Dup3(2, 1, 0)
	}
	log := -1
	if err == nil {
		log, err = unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot set up the log:", err)
		os.Exit(1)
	}
	return stdio{log: os.NewFile(uintptr(log), "log"), handshake: os.NewFile(uintptr(out), "handshake")}
})

const streamStdio = "/plugin.GRPCStdio/StreamStdio"

// drainStdio keeps prints to os.Stdout and os.Stderr flowing into the log. go-plugin reads its pipes only while a host streams
// them: with no host, or a frozen one, a program that prints would block for ever after 64 KiB.
func drainStdio(log *os.File) grpc.StreamServerInterceptor {
	var once sync.Once
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if info.FullMethod != streamStdio {
			return handler(srv, ss)
		}
		once.Do(func() { go handler(srv, stdioSink{log: log}) })
		return status.Error(codes.Unimplemented, "output goes to the log")
	}
}

// stdioSink is the host's end of the stdio stream, in our own process. It lives as long as the process.
type stdioSink struct{ log *os.File }

func (s stdioSink) SendMsg(m any) error {
	if d, ok := m.(interface{ GetData() []byte }); ok {
		s.log.Write(d.GetData()) // a full disk must not stop the chat
	}
	return nil
}

func (stdioSink) RecvMsg(any) error            { return nil }
func (stdioSink) Context() context.Context     { return context.Background() }
func (stdioSink) SetHeader(metadata.MD) error  { return nil }
func (stdioSink) SendHeader(metadata.MD) error { return nil }
func (stdioSink) SetTrailer(metadata.MD)       {}
