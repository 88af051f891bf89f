package instance

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/kmsctl/kms/runtime/plugin/pb"
	"github.com/kmsctl/kms/runtime/ua"
)

// The api role has no connections: these calls answer with none.

func (s *server) Connections(req *pb.ConnectionsRequest, stream grpc.ServerStreamingServer[pb.Connection]) error {
	r, err := s.configured()
	if err != nil || r.ua == nil {
		return err
	}
	list := r.ua.Connections(ua.Filter{
		Tenant: req.GetTenant(), User: req.GetUser(), Channel: req.GetChannel(), Limit: int(req.GetLimit()),
	})
	for _, c := range list {
		err := stream.Send(&pb.Connection{
			Id: c.ID, Tenant: c.Tenant, User: c.User, Name: c.Name, Channels: c.Channels, ConnectedAtMs: c.ConnectedAt.UnixMilli(),
			Remote: c.Remote, SentBytes: int64(c.Stats.SentBytes), PendingBytes: int64(c.Stats.Pending),
			LastReadMs: c.Stats.LastRead.UnixMilli(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *server) Kick(_ context.Context, req *pb.KickRequest) (*pb.KickReply, error) {
	r, err := s.configured()
	if err != nil || r.ua == nil {
		return &pb.KickReply{}, err
	}
	n := r.ua.Kick(ua.Filter{Tenant: req.GetTenant(), User: req.GetUser(), Connection: req.GetConnection()}, req.GetReason())
	r.log.Info("kicked", "tenant", req.GetTenant(), "user", req.GetUser(), "connection", req.GetConnection(), "closed", n)
	return &pb.KickReply{Closed: int32(n)}, nil
}

func (s *server) Drain(_ context.Context, req *pb.DrainRequest) (*pb.DrainReply, error) {
	r, err := s.configured()
	if err != nil || r.ua == nil {
		return &pb.DrainReply{}, err
	}
	n := r.ua.Drain(ua.DrainOptions{
		Rate: req.GetRate(), Deadline: time.Duration(req.GetDeadlineMs()) * time.Millisecond, Message: req.GetMessage(),
		Tenants: req.GetTenants(), Except: req.GetExcept(), Once: req.GetOnce(), Paused: req.GetPaused(),
	})
	r.log.Info("draining", "connections", n, "rate", req.GetRate(), "paused", req.GetPaused())
	return &pb.DrainReply{Connections: int64(n)}, nil
}

func (s *server) CancelDrain(context.Context, *pb.CancelDrainRequest) (*pb.CancelDrainReply, error) {
	r, err := s.configured()
	if err == nil && r.ua != nil {
		r.ua.CancelDrain()
	}
	return &pb.CancelDrainReply{}, err
}
