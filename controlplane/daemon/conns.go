package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/runtime/plugin/pb"
)

// maxConnections bounds one listing over all instances.
const maxConnections = 10_000

// Connections lists the client connections that match the fields of filter that are set.
func (d *Daemon) Connections(ctx context.Context, filter controlplane.Connection) ([]controlplane.Connection, error) {
	out := []controlplane.Connection{}
	err := d.eachUA(filter, func(in *instance, client pb.InstanceClient) error {
		if len(out) >= maxConnections {
			return nil // a limit of 0 would be none
		}
		found, err := in.connections(ctx, client, filter, maxConnections-len(out))
		out = append(out, found...)
		return err
	})
	return out, err
}

func (in *instance) connections(ctx context.Context, client pb.InstanceClient, filter controlplane.Connection, limit int) ([]controlplane.Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request := &pb.ConnectionsRequest{Tenant: filter.Tenant, User: filter.User, Limit: int32(limit)}
	if len(filter.Channels) > 0 {
		request.Channel = filter.Channels[0]
	}
	stream, err := client.Connections(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("cannot list connections of set %q: %s", in.set, grpcText(err))
	}
	var out []controlplane.Connection
	for {
		c, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("cannot list connections of set %q: %s", in.set, grpcText(err))
		}
		if filter.ID != "" && filter.ID != c.GetId() {
			continue
		}
		out = append(out, controlplane.Connection{
			ID: c.GetId(), Version: in.version, Set: in.set, Tenant: c.GetTenant(), User: c.GetUser(), Name: c.GetName(),
			Channels: c.GetChannels(), Remote: c.GetRemote(), ConnectedAt: time.UnixMilli(c.GetConnectedAtMs()),
			LastReadAt: time.UnixMilli(c.GetLastReadMs()), SentBytes: c.GetSentBytes(), Pending: c.GetPendingBytes(),
		})
	}
}

// Kick closes the connections that match, and returns how many.
func (d *Daemon) Kick(ctx context.Context, filter controlplane.Connection, reason string) (int, error) {
	closed := 0
	err := d.eachUA(filter, func(in *instance, client pb.InstanceClient) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		reply, err := client.Kick(ctx, &pb.KickRequest{Tenant: filter.Tenant, User: filter.User, Connection: filter.ID, Reason: reason})
		if err != nil {
			return fmt.Errorf("cannot kick on set %q: %s", in.set, grpcText(err))
		}
		closed += int(reply.GetClosed())
		return nil
	})
	return closed, err
}

// eachUA calls run for the running UA instances of the filter's version or set, all of them when neither is given.
func (d *Daemon) eachUA(filter controlplane.Connection, run func(*instance, pb.InstanceClient) error) error {
	var failures []error
	for _, s := range d.allSets() {
		proc := s.ua.process()
		if proc == nil || filter.Version != "" && s.Version != filter.Version || filter.Set != "" && s.ID != filter.Set {
			continue
		}
		failures = append(failures, run(s.ua, proc.Client()))
	}
	return errors.Join(failures...)
}
