package api

import (
	"errors"

	"github.com/kmsctl/kms/runtime/store"
)

func getMembers(c *call) (answer, error) {
	limit, err := c.limit()
	if err != nil {
		return answer{}, err
	}
	all, err := c.store.Members(c.ctx, c.tenant, c.path["channel"])
	if err != nil {
		return answer{}, missing(err)
	}
	page, more := pageOf(all, func(user string) string { return user }, c.query["after"], int(limit))
	if page == nil {
		page = []string{}
	}
	return ok(struct {
		Members []string `json:"members"`
		More    bool     `json:"more"`
	}{page, more})
}

func putMember(c *call) (answer, error) {
	if err := c.store.AddMember(c.ctx, c.tenant, c.path["channel"], c.path["user"]); err != nil {
		return answer{}, missing(err)
	}
	c.chat.Changed()
	return done, nil
}

// deleteMember leaves the user no member; one who was none is no error, since a retry meets that.
func deleteMember(c *call) (answer, error) {
	err := c.store.RemoveMember(c.ctx, c.tenant, c.path["channel"], c.path["user"])
	if errors.Is(err, store.ErrNotFound) {
		_, err := c.channel()
		return done, err
	}
	if err != nil {
		return answer{}, err
	}
	c.chat.Changed()
	return done, nil
}
