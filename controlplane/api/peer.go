package api

import (
	"context"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// ConnContext notes who is at the other end of a unix socket. It belongs into http.Server.ConnContext; without it the API
// refuses every change, because it could not say who made it.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	sock, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred.Uid)
}

// whoCalls names the peer: its login name, or "uid 1000" for one that has none. It is empty when the peer is not known.
func whoCalls(ctx context.Context) string {
	uid, ok := ctx.Value(peerKey{}).(uint32)
	if !ok {
		return ""
	}
	return loginName(uid)
}

// loginName is "uid 1000" for a user that has no name.
func loginName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil && u.Username != "" {
		return u.Username
	}
	return "uid " + id
}
