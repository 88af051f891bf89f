package api

import (
	"cmp"
	"context"

	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/store"
)

func channelOf(ch store.Channel) Channel {
	return Channel{Tenant: ch.Tenant, ID: ch.ID, Kind: ch.Kind, History: ch.History, Name: ch.Name, Epoch: ch.Epoch, Head: ch.Head, First: ch.First, CreatedAt: ch.CreatedAt}
}

func getChannels(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	channels, err := c.Store().Channels(c.ctx, id)
	out := make([]Channel, 0, len(channels))
	for _, ch := range channels {
		out = append(out, channelOf(ch))
	}
	return out, err
}

func postChannel(c *call) (any, error) {
	id, err := c.tenant()
	if err != nil {
		return nil, err
	}
	var n NewChannel
	if err := c.decode(&n, maxBody); err != nil {
		return nil, err
	}
	c.subject = id + "/" + n.ID
	n.Kind, n.History, n.Name = cmp.Or(n.Kind, "guild"), cmp.Or(n.History, "log"), cmp.Or(n.Name, n.ID)
	if err := names.Channel(n.ID); err != nil {
		return nil, err
	}
	if err := oneOf("kind", n.Kind, "world", "guild", "direct"); err != nil {
		return nil, err
	}
	if err := oneOf("history", n.History, "log", "none"); err != nil {
		return nil, err
	}
	if err := names.Display(n.Name); err != nil {
		return nil, err
	}
	ch, err := c.Store().CreateChannel(c.ctx, store.Channel{Tenant: id, ID: n.ID, Kind: n.Kind, History: n.History, Name: n.Name})
	return channelOf(ch), err
}

// channel returns the path's tenant and channel once both are known to exist.
func (c *call) channel() (tenant, channel string, err error) {
	if tenant, err = c.tenant(); err != nil {
		return "", "", err
	}
	channel = c.r.PathValue("channel")
	if err := names.Channel(channel); err != nil {
		return "", "", err
	}
	_, err = c.Store().Channel(c.ctx, tenant, channel)
	return tenant, channel, err
}

func deleteChannel(c *call) (any, error) {
	tenant, channel, err := c.channel()
	if err != nil {
		return nil, err
	}
	return nil, c.Store().DeleteChannel(c.ctx, tenant, channel)
}

func getMembers(c *call) (any, error) {
	tenant, channel, err := c.channel()
	if err != nil {
		return nil, err
	}
	members, err := c.Store().Members(c.ctx, tenant, channel)
	return some(members), err
}

func putMember(c *call) (any, error)    { return nil, c.member(c.Store().AddMember) }
func deleteMember(c *call) (any, error) { return nil, c.member(c.Store().RemoveMember) }

func (c *call) member(change func(ctx context.Context, tenant, channel, user string) error) error {
	tenant, channel, err := c.channel()
	if err != nil {
		return err
	}
	user := c.r.PathValue("user")
	if err := names.User(user); err != nil {
		return err
	}
	return change(c.ctx, tenant, channel, user)
}
