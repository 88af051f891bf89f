package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/plugin/pb"
)

// link is the gRPC connection to one instance. Every connect, also those gRPC makes by itself later, is checked to reach the
// recorded process.
type link struct {
	pid  int // set, as addr, before the first connect
	addr string

	mu       sync.Mutex
	conn     *grpc.ClientConn
	closed   bool
	stranger error
}

// config is what first start and adoption share.
func (l *link) config() *goplugin.ClientConfig {
	return &goplugin.ClientConfig{
		HandshakeConfig:  plugin.Handshake,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true,
		Logger:           hclog.NewNullLogger(),
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithContextDialer(l.dial), // after go-plugin's own, so this one counts
			grpc.WithChainStreamInterceptor(l.capture),
		},
	}
}

func (l *link) dial(ctx context.Context, _ string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", l.addr)
	if err != nil {
		return nil, err
	}
	if err := checkPeer(c.(*net.UnixConn), l.pid); err != nil {
		c.Close()
		l.mu.Lock()
		l.stranger = err
		l.mu.Unlock()
		return nil, err
	}
	return c, nil
}

// checkPeer holds the process that listens against the one we mean, and its user against ours.
func checkPeer(c *net.UnixConn, pid int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot check who listens: %v", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return fmt.Errorf("cannot check who listens: %v", errors.Join(err, credErr))
	}
	if int(cred.Pid) != pid || int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: pid %d of user %d listens, want pid %d of user %d", ErrStranger, cred.Pid, cred.Uid, pid, os.Geteuid())
	}
	return nil
}

// capture gets hold of the connection while go-plugin still makes it. Client() has no deadline: with a frozen child it would wait
// for its first stream, and leave the connection behind if that failed.
func (l *link) capture(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	l.mu.Lock()
	l.conn = cc
	closed := l.closed
	l.mu.Unlock()
	if closed {
		cc.Close()
	}
	return next(ctx, desc, cc, method, opts...)
}

// close cuts the connection and never goes through go-plugin's own Close, which stops the child.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	conn := l.conn
	l.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
}

// open makes the client and asks who answers, all before ctx ends.
func (l *link) open(ctx context.Context, client *goplugin.Client) (pb.InstanceClient, *pb.IdentifyReply, error) {
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	inst, id, err := l.identify(ctx, client)
	if err == nil {
		return inst, id, nil
	}
	l.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stranger != nil {
		return nil, nil, l.stranger
	}
	return nil, nil, fmt.Errorf("%w: %v", ErrUnresponsive, err)
}

func (l *link) identify(ctx context.Context, client *goplugin.Client) (pb.InstanceClient, *pb.IdentifyReply, error) {
	proto, err := client.Client()
	if err != nil {
		return nil, nil, err
	}
	raw, err := proto.Dispense(plugin.Name)
	if err != nil {
		return nil, nil, err
	}
	inst := raw.(pb.InstanceClient)
	id, err := inst.Identify(ctx, &pb.IdentifyRequest{}) // only a first call proves life
	if err != nil {
		return nil, nil, err
	}
	if id.GetInstanceId() == "" {
		return nil, nil, errors.New("it identified itself without an instance id")
	}
	return inst, id, nil
}
