package instance

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kmsctl/kms/runtime/plugin/pb"
)

// defaultStop is how long what is in flight may take when the caller does not say.
const defaultStop = 5 * time.Second

// server answers the plugin contract for one process.
type server struct {
	pb.UnimplementedInstanceServer
	build   Build
	role    string
	id      string
	started time.Time
	log     *slog.Logger
	level   *slog.LevelVar

	configuring sync.Mutex // one Configure or Stop at a time

	mu      sync.Mutex
	running *running // nil before Configure and after Stop
	stopped bool
}

func newServer(b Build, role string, log *os.File) *server {
	level := new(slog.LevelVar)
	handler := slog.NewJSONHandler(log, &slog.HandlerOptions{Level: level})
	return &server{
		build: b, role: role, id: rand.Text(), started: time.Now(), level: level,
		log: slog.New(handler).With("role", role, "pid", os.Getpid()),
	}
}

func (s *server) Identify(context.Context, *pb.IdentifyRequest) (*pb.IdentifyReply, error) {
	reply := &pb.IdentifyReply{
		InstanceId: s.id, Role: s.role, Label: s.build.Label, Version: s.build.Version,
		Pid: int64(os.Getpid()), StartedAtMs: s.started.UnixMilli(),
	}
	if r := s.current(); r != nil {
		reply.Configured, reply.Set = true, r.set
	}
	return reply, nil
}

// Configure opens everything and answers when the socket takes connections. After an error nothing is left open and it may be
// called again.
func (s *server) Configure(ctx context.Context, req *pb.ConfigureRequest) (*pb.ConfigureReply, error) {
	s.configuring.Lock()
	defer s.configuring.Unlock()
	s.mu.Lock()
	taken := s.running != nil || s.stopped
	s.mu.Unlock()
	if taken {
		return nil, status.Error(codes.FailedPrecondition, "the instance is configured already, or has stopped")
	}
	if err := s.setLevel(req.GetLogLevel()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	r, err := open(ctx, s.build, s.role, req, s.log)
	if err != nil {
		s.log.Error("cannot configure", "set", req.GetSet(), "error", err)
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	s.mu.Lock()
	s.running = r
	s.mu.Unlock()
	r.log.Info("serving", "socket", r.socket.path)
	return &pb.ConfigureReply{}, nil
}

func (s *server) Reload(_ context.Context, req *pb.ReloadRequest) (*pb.ReloadReply, error) {
	r, err := s.configured()
	if err != nil {
		return nil, err
	}
	if err := s.setLevel(req.GetLogLevel()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	r.bus.Reload(links(req.GetLinks()))
	r.chat.SetLimits(chatLimits(req.GetLimits()))
	return &pb.ReloadReply{}, nil
}

// Stop announces 1012 to every client, lets what is in flight be answered until the deadline and closes everything. The process
// exits after the answer.
func (s *server) Stop(ctx context.Context, req *pb.StopRequest) (*pb.StopReply, error) {
	s.configuring.Lock()
	defer s.configuring.Unlock()
	s.mu.Lock()
	r := s.running
	s.running, s.stopped = nil, true
	s.mu.Unlock()
	if r == nil {
		return &pb.StopReply{}, nil
	}
	wait := time.Duration(req.GetDeadlineMs()) * time.Millisecond
	if wait <= 0 {
		wait = defaultStop
	}
	// The caller may give up or die: stopping goes on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	message := req.GetMessage()
	if message == "" {
		message = "the server is restarting"
	}
	r.log.Info("stopping", "within", wait.String())
	r.close(ctx, message)
	return &pb.StopReply{}, nil
}

func (s *server) current() *running {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

func (s *server) configured() (*running, error) {
	if r := s.current(); r != nil {
		return r, nil
	}
	return nil, status.Error(codes.FailedPrecondition, "the instance is not configured")
}

// setLevel sets the log level; empty leaves it.
func (s *server) setLevel(name string) error {
	if name == "" {
		return nil
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(name))); err != nil {
		return fmt.Errorf("unknown log level %q: want debug, info, warn or error", name)
	}
	s.level.Set(level)
	return nil
}
