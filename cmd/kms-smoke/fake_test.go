package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kmsctl/kms/runtime/plugin"
	"github.com/kmsctl/kms/runtime/plugin/pb"
)

// fakeEnv has this test binary be a build: scripts that testScript writes set it.
const fakeEnv = "KMS_SMOKE_FAKE"

// fakeBuild serves the contract and says in health what mode tells.
func fakeBuild(mode string) {
	plugin.Serve(os.Args[1], &fakeInstance{mode: mode})
}

type fakeInstance struct {
	pb.UnimplementedInstanceServer
	mode string
}

func (f *fakeInstance) Identify(context.Context, *pb.IdentifyRequest) (*pb.IdentifyReply, error) {
	return &pb.IdentifyReply{InstanceId: fmt.Sprint("fake-", os.Getpid()), Role: os.Args[1], Pid: int64(os.Getpid())}, nil
}

func (f *fakeInstance) Configure(context.Context, *pb.ConfigureRequest) (*pb.ConfigureReply, error) {
	if f.mode == "refuses" {
		return nil, fmt.Errorf("the moon is in the wrong phase")
	}
	return &pb.ConfigureReply{}, nil
}

func (f *fakeInstance) Health(context.Context, *pb.HealthRequest) (*pb.HealthReply, error) {
	return &pb.HealthReply{Checks: []*pb.Check{{Name: "moon", Detail: "is in the wrong phase"}}}, nil
}

func (f *fakeInstance) Stop(context.Context, *pb.StopRequest) (*pb.StopReply, error) {
	return &pb.StopReply{}, nil
}

// testScript writes a build: a shell script that describes itself as 2.0 unless body does, and else does what body says.
func testScript(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "build")
	text := "#!/bin/sh\n" + body + "\n"
	must(t, os.WriteFile(path, []byte(text), 0o755))
	return path
}

// describing is the answer to describe, for scripts that go wrong later.
const describing = `if [ "$1" = describe ]; then
	echo '{"version":"2.0","label":"fake","contract":1,"schema_min":1,"schema_max":1000}'
	exit 0
fi
`

// testFake writes a build that serves the contract in a mode of fakeBuild.
func testFake(t *testing.T, mode string) string {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	return testScript(t, describing+fmt.Sprintf("%s=%s exec %s \"$@\"", fakeEnv, mode, self))
}
