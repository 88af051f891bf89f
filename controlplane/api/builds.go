package api

import (
	"fmt"

	"github.com/kmsctl/kms/controlplane"
)

func verifyBuild(c *call) (any, error) {
	b, err := c.build()
	if err != nil {
		return nil, err
	}
	return c.VerifyBuild(c.ctx, b.Digest)
}

func planGC(c *call) (any, error) {
	var r controlplane.GCRequest
	if err := c.decode(&r, maxBody); err != nil {
		return nil, err
	}
	r.DryRun = true
	builds, err := c.CollectBuilds(c.ctx, r)
	return some(builds), err
}

func postGC(c *call) (any, error) {
	var r controlplane.GCRequest
	if err := c.decode(&r, maxBody); err != nil {
		return nil, err
	}
	if r.DryRun {
		return nil, badRequest("cannot collect as a dry run: POST it to /v1/plans/gc")
	}
	builds, err := c.CollectBuilds(c.ctx, r)
	gone := 0
	for _, b := range builds {
		if b.Kept == "" {
			gone++
		}
	}
	c.subject = fmt.Sprintf("%d of %d builds", gone, len(builds))
	return some(builds), err
}
