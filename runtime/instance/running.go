package instance

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kmsctl/kms/runtime/bus"
	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/store"
	"github.com/kmsctl/kms/runtime/ua"
)

// closeTimeout is what a client gets to answer a close frame: less than the deadlines of Stop, so that one that is gone without a
// word does not make the whole process late.
const closeTimeout = 2 * time.Second

// readyTimeout is how long the changes feed may take to be read the first time.
const readyTimeout = 10 * time.Second

// running is a configured instance. Its parts are closed in the reverse order of their making.
type running struct {
	set, version string
	log          *slog.Logger
	store        *store.Store
	chatlog      *chatlog.Log
	bus          *bus.Bus
	chat         *chat.Service
	ua           *ua.Server // nil in the api role
	http         *http.Server
	socket       *socket

	serving atomic.Bool
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// open makes all parts. On an error those already made are closed again.
func open(ctx context.Context, b Build, role string, req *pb.ConfigureRequest, log *slog.Logger) (*running, error) {
	if err := checkRequest(req); err != nil {
		return nil, err
	}
	r := &running{set: req.GetSet(), version: req.GetVersion(), log: log.With("set", req.GetSet(), "version", req.GetVersion())}
	var err error
	r.store, err = store.Open(ctx, req.GetStoreUrl(), store.Options{Logger: r.log})
	if err != nil {
		return nil, err
	}
	if err = r.store.CheckSchema(ctx, b.SchemaMin, b.SchemaMax); err == nil {
		r.socket, err = listen(req.GetSocket())
	}
	if err != nil {
		r.store.Close()
		return nil, err
	}
	r.compose(b, role, req)
	r.serve()
	waiting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := r.chat.Ready(waiting); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		r.close(ctx, "the server could not start")
		return nil, err
	}
	return r, nil
}

func checkRequest(req *pb.ConfigureRequest) error {
	if req.GetSet() == "" || req.GetNode() == "" || req.GetSocket() == "" || req.GetStoreUrl() == "" {
		return errors.New("cannot configure: node, set, socket and store_url are needed")
	}
	return names.Version(req.GetVersion())
}

// apiInterval is from the beginning of one commit of an API process to the next, unless it is set. On SQLite processes take turns: what
// game servers say is committed in fewer turns than what users say, who would wait for each of them.
const apiInterval = 20 * time.Millisecond

// compose wires the parts; nothing of it can fail or waits for database or bus.
func (r *running) compose(b Build, role string, req *pb.ConfigureRequest) {
	limits := req.GetLimits()
	interval := time.Duration(limits.GetCommitIntervalMs()) * time.Millisecond
	if interval == 0 && role == plugin.RoleAPI {
		interval = apiInterval
	}
	r.chatlog = chatlog.Open(r.store, chatlog.Options{Interval: interval, Logger: r.log})
	origin := chat.Origin(req.GetNode(), req.GetSet(), role)
	config := chat.Config{
		Store: r.store, Log: r.chatlog, Version: r.version, Origin: origin, Limits: chatLimits(limits), Logger: r.log,
		Bus: func(on chat.BusEvents) chat.Bus {
			r.bus = bus.Open(bus.Config{
				Link: bus.Active(links(req.GetLinks())), Nick: chat.Nick(origin), Logger: r.log,
				Receive: on.Receive, Gone: on.Gone, Here: on.Here, State: on.State,
			})
			return r.bus
		},
	}
	r.http = &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       75 * time.Second, // longer than nginx keeps its own, so that it never sends into a closing one
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(r.log.Handler(), slog.LevelDebug), // what clients do wrong
	}
	if role == plugin.RoleUA {
		protocol := b.Protocol()
		config.Hub = &hub.Options{Codec: protocol, CloseTimeout: closeTimeout}
		r.chat = chat.New(config)
		r.ua = ua.Handler(r.chat, protocol, ua.Options{
			Version: r.version, MaxFrame: int(limits.GetMaxFrameBytes()), Logger: r.log,
		})
		r.http.Handler = r.ua
		return
	}
	r.chat = chat.New(config)
	r.http.ReadTimeout, r.http.WriteTimeout = 30*time.Second, 60*time.Second
	r.http.Handler = b.API(APIParts{Chat: r.chat, Store: r.store, Version: r.version, Logger: r.log})
}

func (r *running) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.serving.Store(true)
	r.wg.Go(func() {
		err := r.http.Serve(r.socket)
		r.serving.Store(false)
		if !errors.Is(err, http.ErrServerClosed) {
			r.log.Error("cannot take connections any more", "error", err)
		}
	})
	r.wg.Go(func() { r.noteTenants(ctx) })
}

// close ends the instance: nothing new, then what is in flight until ctx ends, then the parts.
func (r *running) close(ctx context.Context, message string) {
	r.cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if r.http.Shutdown(ctx) != nil {
			r.http.Close() // requests that outlive the deadline are cut
		}
	})
	if r.ua != nil {
		wg.Go(func() { r.ua.Shutdown(ctx, message) })
	}
	wg.Wait()
	if err := r.chat.Flush(ctx); err != nil {
		r.log.Warn("messages were left without an answer", "pending", r.chat.Stats().Pending)
	}
	r.socket.remove()
	if r.ua != nil {
		r.ua.Close()
	}
	r.chat.Close()
	r.bus.Close()
	if err := errors.Join(r.chatlog.Close(), r.store.Close()); err != nil {
		r.log.Error("cannot close the store", "error", err)
	}
	r.wg.Wait()
}

func links(list []*pb.Link) []bus.Link {
	out := make([]bus.Link, len(list))
	for i, l := range list {
		out[i] = bus.FromPB(l)
	}
	return out
}

func chatLimits(l *pb.Limits) chat.Limits {
	return chat.Limits{
		MaxTextChars: int(l.GetMaxTextChars()), PerSecond: int(l.GetMessagesPerSecond()), Burst: int(l.GetBurst()),
		LoginsParallel: int(l.GetLoginsParallel()), LoginsWaiting: int(l.GetLoginsWaiting()),
	}
}
