// Package plugin is the contract between the control plane and a server version: handshake, contract versions, the answers
// to `BUILD describe` and `BUILD probe`, and Serve, which makes a process a child that outlives its host. Both sides import
// it; it imports neither. The calls themselves are in pb; docs/writing-a-version.md is for builds in other languages.
package plugin

import (
	"context"
	"errors"
	"slices"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/kmsctl/kms/runtime/plugin/pb"
)

// Contract is the newest contract version this code speaks. It goes up only when an old host could not use a new build.
const Contract = 1

// Name is what a host dispenses from the plugin set.
const Name = "instance"

// The roles a build can be started in.
const (
	RoleUA  = "ua"
	RoleAPI = "api"
)

// Handshake tells a build that a KMS control plane started it. The cookie is no secret.
var Handshake = goplugin.HandshakeConfig{
	MagicCookieKey:   "KMS_PLUGIN",
	MagicCookieValue: "5d0b7a3e-kms-instance",
}

// Plugins are the contract versions a host can use, by number.
func Plugins() map[int]goplugin.PluginSet { return sets(nil) }

// Contracts lists the contract versions a host can use, lowest first.
func Contracts() []int {
	var all []int
	for v := range Plugins() {
		all = append(all, v)
	}
	slices.Sort(all)
	return all
}

func sets(impl pb.InstanceServer) map[int]goplugin.PluginSet {
	return map[int]goplugin.PluginSet{Contract: {Name: &instancePlugin{impl: impl}}}
}

type instancePlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	impl pb.InstanceServer
}

func (p *instancePlugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	if p.impl == nil {
		return errors.New("internal error: the host's plugin set cannot serve")
	}
	pb.RegisterInstanceServer(s, p.impl)
	return nil
}

func (p *instancePlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return pb.NewInstanceClient(c), nil
}
