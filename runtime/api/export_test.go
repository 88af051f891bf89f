package api

import (
	"maps"
	"net/http"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/store"
)

// HandlerWithin is Handler with less patience with the database.
func HandlerWithin(d time.Duration, svc *chat.Service, st *store.Store, version string) http.Handler {
	s := newServer(svc, st, version, nil)
	s.timeout = d
	return s
}

// Routes are all routes as "METHOD path".
func Routes() (list []string) {
	for _, rt := range routes {
		list = append(list, rt.method+" "+rt.path)
	}
	return list
}

// Statuses are the codes with their statuses.
func Statuses() map[string]int { return maps.Clone(statusOf) }

// Decode is what reads a body.
var Decode = decode

// Bodies are what the routes read their bodies into.
func Bodies() []any {
	return []any{&newToken{}, &wanted{}, &newMessage{}, &replacement{}, &patch{}, &rollback{}, &ngText{}}
}
