package instance

import (
	"bytes"
	"context"
	"runtime/pprof"
	"runtime/trace"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kmsctl/kms/runtime/plugin/pb"
)

const (
	maxProfile   = 60 * time.Second
	profileChunk = 64 << 10
)

// Profile sends a profile in pprof's format, or a trace. A caller that goes away ends a recording early.
func (s *server) Profile(req *pb.ProfileRequest, stream grpc.ServerStreamingServer[pb.ProfileChunk]) error {
	var buf bytes.Buffer
	if err := record(stream.Context(), &buf, req.GetKind(), time.Duration(req.GetSeconds())*time.Second); err != nil {
		return err
	}
	for buf.Len() > 0 {
		if err := stream.Send(&pb.ProfileChunk{Data: buf.Next(profileChunk)}); err != nil {
			return err
		}
	}
	return nil
}

func record(ctx context.Context, to *bytes.Buffer, kind string, length time.Duration) error {
	switch kind {
	case "heap", "goroutine", "mutex", "block":
		return pprof.Lookup(kind).WriteTo(to, 0)
	case "cpu":
		if err := pprof.StartCPUProfile(to); err != nil {
			return status.Error(codes.ResourceExhausted, err.Error()) // another one is being recorded
		}
		defer pprof.StopCPUProfile()
	case "trace":
		if err := trace.Start(to); err != nil {
			return status.Error(codes.ResourceExhausted, err.Error())
		}
		defer trace.Stop()
	default:
		return status.Errorf(codes.InvalidArgument, "unknown profile %q: want cpu, heap, goroutine, mutex, block or trace", kind)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(max(length, time.Second), maxProfile)):
		return nil
	}
}
