package api

import "maps"

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
	return []any{&newToken{}, &wanted{}, &newMessage{}, &replacement{}, &patch{}}
}
