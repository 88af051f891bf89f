package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/names"
)

// route is one call of the API. The table below is all there is, and docs/api.md is held against it.
type route struct {
	method string
	path   string // below /api/{version}/{tenant}/; {user}, {channel}, {message} and {list} stand for names
	query  []string
	do     func(*call) (answer, error)
}

var routes = []route{
	{"GET", "", nil, getRoot},
	{"PUT", "users/{user}/token", nil, putToken},
	{"DELETE", "users/{user}/token", nil, bodiless(deleteToken)},
	{"GET", "channels", []string{"after", "limit"}, getChannels},
	{"GET", "channels/{channel}", nil, getChannel},
	{"PUT", "channels/{channel}", nil, putChannel},
	{"DELETE", "channels/{channel}", nil, bodiless(deleteChannel)},
	{"GET", "channels/{channel}/members", []string{"after", "limit"}, getMembers},
	{"PUT", "channels/{channel}/members/{user}", nil, bodiless(putMember)},
	{"DELETE", "channels/{channel}/members/{user}", nil, bodiless(deleteMember)},
	{"GET", "channels/{channel}/messages", []string{"after", "before", "flagged", "limit", "newest"}, getMessages},
	{"POST", "channels/{channel}/messages", nil, postMessage},
	{"PATCH", "channels/{channel}/messages/{message}", nil, patchMessage},
	{"DELETE", "channels/{channel}/messages/{message}", nil, bodiless(deleteMessage)},
	{"GET", "ngwords", []string{"after", "limit", "revision"}, heavy(getNGList)},
	{"PUT", "ngwords", nil, heavy(putNGList)},
	{"PATCH", "ngwords", nil, heavy(patchNGList)},
	{"POST", "ngwords/test", nil, testNGWords},
	{"GET", "ngwords/base", nil, getNGBase},
	{"GET", "ngwords/lists", nil, getNGLists},
	{"GET", "ngwords/lists/{list}", []string{"after", "limit", "revision"}, heavy(getNGList)},
	{"PUT", "ngwords/lists/{list}", nil, heavy(putNGList)},
	{"PATCH", "ngwords/lists/{list}", nil, heavy(patchNGList)},
	{"DELETE", "ngwords/lists/{list}", []string{"revision"}, bodiless(deleteNGList)},
	{"GET", "ngwords/lists/{list}/history", []string{"before", "limit"}, getNGHistory},
	{"GET", "ngwords/lists/{list}/diff", []string{"from", "to"}, heavy(getNGDiff)},
	{"POST", "ngwords/lists/{list}/rollback", nil, heavy(postNGRollback)},
}

// hint is the query parameter by which nginx finds a canary's build; it may stand on every request.
const hint = "u"

// address takes /api/{version}/{tenant}/ off the path and returns the rest. The path comes as the client sent it, while nginx decided
// by its cleaned form: dot segments and empty ones could mean another tenant there than here, so they mean nothing.
func (c *call) address() (rest []string, err error) {
	parts := strings.Split(strings.TrimPrefix(c.r.URL.EscapedPath(), "/"), "/")
	for i, part := range parts {
		parts[i], err = url.PathUnescape(part)
		empty := parts[i] == "" && (i != 3 || len(parts) != 4) // the root is /api/{version}/{tenant}/
		if err != nil || empty || parts[i] == "." || parts[i] == ".." {
			return nil, chat.Errorf(codeNotFound, "there is nothing at this address")
		}
	}
	if len(parts) < 4 || parts[0] != "api" {
		return nil, chat.Errorf(codeNotFound, "there is nothing at this address; want /api/%s/TENANT/...", c.version)
	}
	if parts[1] != c.version {
		return nil, chat.Errorf(codeNoSuchVersion, "this server serves version %s", c.version)
	}
	c.tenant = parts[2]
	return parts[3:], nil
}

// find looks the route up and checks the names in the path.
func (c *call) find(rest []string) error {
	method := c.r.Method
	if method == http.MethodHead { // net/http leaves the body out
		method = http.MethodGet
	}
	var allowed []string
	for i := range routes {
		found, ok := routes[i].match(rest)
		if !ok {
			continue
		}
		if routes[i].method == method {
			c.route, c.path = &routes[i], found
			return c.checkNames()
		}
		allowed = append(allowed, routes[i].method)
	}
	if allowed == nil {
		return chat.Errorf(codeNotFound, "there is nothing at this address")
	}
	c.w.Header().Set("Allow", strings.Join(allowed, ", "))
	return chat.Errorf(codeMethodNotAllowed, "want one of the methods %s", strings.Join(allowed, ", "))
}

func (rt *route) match(parts []string) (map[string]string, bool) {
	want := strings.Split(rt.path, "/")
	if len(want) != len(parts) {
		return nil, false
	}
	found := map[string]string{}
	for i, w := range want {
		if name, ok := strings.CutPrefix(w, "{"); ok {
			found[strings.TrimSuffix(name, "}")] = parts[i]
		} else if w != parts[i] {
			return nil, false
		}
	}
	return found, true
}

func (c *call) checkNames() error {
	checks := map[string]func(string) error{"user": names.User, "channel": names.Channel, "message": names.MessageID, "list": listName}
	for what, value := range c.path {
		if err := checks[what](value); err != nil {
			return chat.Errorf(chat.CodeBadName, "%v", err)
		}
	}
	return nil
}

// listName is a tenant's name of another kind.
func listName(s string) error {
	if names.Tenant(s) != nil {
		return &names.Error{What: "NG list", Value: s, Rule: names.TenantPattern}
	}
	return nil
}

// readQuery refuses parameters that the route does not know, which are mistakes that would go unnoticed.
func (c *call) readQuery() error {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return badRequest("cannot read the query: %v", err)
	}
	c.query = map[string]string{}
	for name, list := range values {
		switch {
		case name == hint:
		case !slices.Contains(c.route.query, name):
			return badRequest("unknown query parameter %q", clip(name))
		case len(list) > 1:
			return badRequest("query parameter %q is given %d times", name, len(list))
		default:
			c.query[name] = list[0]
		}
	}
	return nil
}

// number returns a query parameter from least to most, or otherwise if it is not given.
func (c *call) number(name string, otherwise, least, most int64) (int64, error) {
	text, ok := c.query[name]
	if !ok {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, badRequest("bad %s %q: want a whole number from %d to %d", name, clip(text), least, most)
	}
	return n, nil
}

// flag returns a query parameter that is true or false, false if it is not given.
func (c *call) flag(name string) (bool, error) {
	switch text := c.query[name]; text {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, badRequest("bad %s %q: want true or false", name, clip(text))
	}
}
