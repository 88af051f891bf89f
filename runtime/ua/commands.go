package ua

import (
	"context"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/chatlog"
	"github.com/kmsctl/kms/runtime/envelope"
	"github.com/kmsctl/kms/runtime/hub"
)

// handlers is the dispatch table. A handler answers its command and reports whether the session goes on.
var handlers = map[Verb]func(*session, *Command) bool{
	Login: (*session).login,
	Join:  (*session).join,
	Leave: (*session).leaveChannel,
	Say:   (*session).say,
	Edit:  (*session).say,
	Del:   (*session).say,
	Ping:  (*session).ping,
}

// login may wait long where many log in at once: nothing else of the session can happen yet.
func (c *session) login(cmd *Command) bool {
	if c.isAttached() {
		c.refuse(cmd, chat.Errorf(CodeAlreadyLoggedIn, "this connection is logged in already"))
		return true
	}
	c.conn.CloseAt(time.Time{}, 0, "") // from here on the login has its own deadline
	ctx, cancel := context.WithTimeout(c.srv.ctx, c.srv.opts.LoginDeadline)
	defer cancel()
	identity, err := c.srv.svc.Login(ctx, c.tenant, cmd.Token)
	if err != nil {
		return c.refuseLogin(cmd, chat.AsError(err))
	}
	c.identity = identity
	if err := c.srv.svc.Attach(c); err != nil {
		return c.refuseLogin(cmd, chat.AsError(err))
	}
	deprecation := c.srv.svc.Deprecation(ctx)
	c.srv.counters.logins.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attached = true // a drain that has seen this speaks after the welcome, and who got the welcome is listed
	if c.notice != nil {
		deprecation, c.notice = *c.notice, nil
	}
	c.reply(Reply{Kind: Welcome, To: *cmd, Identity: identity, Limits: Limits{Frame: c.srv.opts.MaxFrame}, Deprecation: deprecation})
	return true
}

func (c *session) refuseLogin(cmd *Command, err *chat.Error) bool {
	c.srv.counters.loginErrors.Add(1)
	c.refuse(cmd, err)
	c.conn.Close(loginClose(err), err.Code)
	return false
}

func loginClose(err *chat.Error) int {
	switch {
	case err.Code == chat.CodeTenantSuspended, err.Code == chat.CodeVersionTooOld:
		return hub.CloseForbidden
	case err.Code == chat.CodeInternal:
		return hub.CloseInternal
	case err.Retry:
		return hub.CloseTryLater
	}
	return hub.CloseUnauthorized
}

func (c *session) join(cmd *Command) bool {
	if !cmd.Anew && c.in(cmd.Channel) {
		c.reply(Reply{Kind: Joined, To: *cmd})
		return true
	}
	if !c.remember(cmd.Channel) {
		c.refuse(cmd, chat.Errorf(CodeTooManyChannels, "this connection is in %d channels, leave one first", maxChannels))
		return true
	}
	c.subscribe(cmd)
	return true
}

// subscribe joins. The channel was remembered before, so that a Removed that comes at once finds it.
func (c *session) subscribe(cmd *Command) {
	ctx, cancel := context.WithTimeout(c.srv.ctx, requestTimeout)
	defer cancel()
	err := c.srv.svc.Join(ctx, c, cmd.Channel, cmd.From, func(j hub.Joined) []byte {
		return c.srv.proto.AppendReply(nil, Reply{Kind: Joined, To: *cmd, Joined: j})
	})
	if err != nil {
		c.forget(cmd.Channel)
		c.refuse(cmd, chat.AsError(err))
	}
}

// leaveChannel asks the service even if the channel is not remembered: a removal may have crossed with a new join.
func (c *session) leaveChannel(cmd *Command) bool {
	c.forget(cmd.Channel)
	if err := c.srv.svc.Leave(c, cmd.Channel); err != nil && chat.AsError(err).Code != chat.CodeNotJoined {
		c.refuse(cmd, chat.AsError(err))
		return true
	}
	c.reply(Reply{Kind: Left, To: *cmd})
	return true
}

// entries are the kinds of what goes into a channel's log.
var entries = map[Verb]string{Say: envelope.Say, Edit: envelope.Edit, Del: envelope.Delete}

// say hands a message over and goes on: the answer comes from the log's goroutine, in the order of the says.
func (c *session) say(cmd *Command) bool {
	to := *cmd
	to.Text = "" // the answer needs it no more, and it may be long
	c.srv.counters.says.Add(1)
	c.begin()
	c.srv.svc.Say(c, chat.SayRequest{
		Kind: entries[cmd.Verb], Target: cmd.Target, Channel: cmd.Channel, ID: cmd.Message, Text: cmd.Text, Retry: cmd.Retry,
	},
		func(r chatlog.Receipt, err error) {
			if err != nil {
				c.refuse(&to, chat.AsError(err))
			} else {
				c.said(&to, &r)
			}
			c.done()
		})
	return true
}

// said is not inlined for refuse's reason.
//
//go:noinline
func (c *session) said(to *Command, r *chatlog.Receipt) {
	c.reply(Reply{Kind: Said, To: *to, Receipt: *r})
}

func (c *session) ping(cmd *Command) bool {
	c.reply(Reply{Kind: Pong, To: *cmd})
	return true
}
