package chat

import "strings"

// Origin names a process in envelopes: node, set and role.
func Origin(node, set, role string) string { return node + "/" + set + "/" + role }

// Nick is the bus nick of the process that an origin names: the set, which is unique in the network, and the role's first letter.
// A restarted process has its predecessor's nick.
func Nick(origin string) string {
	_, rest, _ := strings.Cut(origin, "/")
	set, role, _ := strings.Cut(rest, "/")
	if role == "" {
		return set
	}
	return set + role[:1]
}
