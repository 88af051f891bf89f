package hub

import "github.com/kmsctl/kms/runtime/chatlog"

// Head is how far a channel's log reaches.
type Head = chatlog.Head
