package ua

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/store"
)

// session is one connection. Its reader owns what stands before mu; it writes identity before it attaches the
// session to the service, and nobody reads it earlier.
type session struct {
	srv      *Server
	conn     *hub.Conn
	id       uint64
	tenant   string // of the URL
	remote   string
	since    time.Time
	identity chat.Identity
	bad      int    // frames in a row that made no sense
	again    func() // run

	mu       sync.Mutex
	calm     sync.Cond // on mu: inFlight fell
	inFlight int       // says without an answer
	channels []string
	attached bool
	told     bool               // to move, by the drain that runs
	notice   *store.Deprecation // that came between the session's Attach and its welcome, which tells it
	ending   *end               // set once the session takes no more commands
}

// end is how a session that has been told to go will be closed once its last say is answered.
type end struct {
	code   int
	reason string
}

// start begins the reading. enter has counted the session in wg, and gone ends that.
func (c *session) start() {
	c.again = c.run
	if !c.conn.Later(c.again) {
		go c.run()
	}
}

// run reads until the connection ends or there is nothing more for now: an idle session has no goroutine, nor a stack that the
// database has made grow.
func (c *session) run() {
	for {
		frame, err := c.conn.Read()
		if err != nil {
			c.srv.counters.countClose(err)
			c.gone()
			return
		}
		c.srv.counters.frames.Add(1)
		commands, ok := c.frame(frame)
		if !ok {
			c.waitClosed()
			c.gone()
			return
		}
		c.pace(commands)
		if c.conn.Later(c.again) {
			return
		}
	}
}

// pace waits before more is read while the tenant's clients send more commands, or more of what counts as much, than is read of them: what
// comes meanwhile waits in the sockets, and each connection has its turn. The reader alone calls it.
func (c *session) pace(n int) {
	wait := c.srv.svc.Pace(c.tenant, n)
	if wait <= 0 {
		return
	}
	c.srv.counters.paced.Add(1)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.conn.Done():
	case <-c.srv.ctx.Done():
	}
}

// waitClosed reads on without looking, so that a client that is still sending gets to see the close frame and not a reset.
func (c *session) waitClosed() {
	for {
		if _, err := c.conn.Read(); err != nil {
			c.srv.counters.countClose(err)
			return
		}
	}
}

// gone runs once, when the reader has ended for whatever reason.
func (c *session) gone() {
	defer c.srv.wg.Done()
	c.srv.leave(c)
	c.mu.Lock()
	attached := c.attached
	c.mu.Unlock()
	if attached {
		c.srv.svc.Detach(c)
	}
}

// frame handles one frame, counts its commands and reports whether to go on reading.
func (c *session) frame(data []byte) (n int, ok bool) {
	if c.isEnding() {
		return 0, false
	}
	commands, err := c.srv.proto.Decode(data)
	if err != nil {
		return 1, c.refuseFrame(err)
	}
	sense := true
	for i := range commands {
		cmd := &commands[i]
		if cmd.Bad != nil && cmd.Bad.Code != CodeUnknownCommand {
			sense = false
		}
		if !c.command(cmd) {
			return 0, false
		}
	}
	if sense {
		c.bad = 0
		return len(commands), true
	}
	return len(commands), c.countBad()
}

// refuseFrame answers a frame of which nothing can be used. Before login the first one ends the session.
func (c *session) refuseFrame(err error) bool {
	var refusal *chat.Error
	if !errors.As(err, &refusal) {
		refusal = chat.Errorf(chat.CodeBadFrame, "%v", err)
	}
	c.refuse(&Command{}, refusal)
	return c.countBad()
}

func (c *session) countBad() bool {
	c.srv.counters.badFrames.Add(1)
	if c.bad++; c.bad < maxBadFrames && c.isAttached() {
		return true
	}
	c.conn.Close(hub.CloseBadFrame, "too many bad frames")
	return false
}

// command runs one command and reports whether the session goes on.
func (c *session) command(cmd *Command) bool {
	if !c.isAttached() && (cmd.Verb != Login || cmd.Bad != nil) {
		return c.refuseStranger(cmd)
	}
	if cmd.Bad != nil {
		c.refuse(cmd, cmd.Bad)
		return true
	}
	return handlers[cmd.Verb](c, cmd)
}

// refuseStranger ends a session whose first command is no proper login.
func (c *session) refuseStranger(cmd *Command) bool {
	if cmd.Verb == Login {
		c.refuse(cmd, cmd.Bad)
		c.conn.Close(hub.CloseBadFrame, "bad login frame")
		return false
	}
	c.refuse(cmd, chat.Errorf(chat.CodeNotLoggedIn, "the first frame must log in"))
	c.conn.Close(hub.CloseUnauthorized, "not logged in")
	return false
}

// refuse answers cmd with an error. It is not inlined: a Reply is large, and the callers' frames are on the stack of a reader whose
// message is checked below them. While all of that fits 4 KiB, stacks neither grow with a message nor shrink at a collection.
//
//go:noinline
func (c *session) refuse(cmd *Command, err *chat.Error) {
	c.srv.counters.refused.Add(1)
	c.reply(Reply{Kind: Refused, To: *cmd, Err: err})
}

func (c *session) reply(r Reply) {
	buf := buffers.Get().(*[]byte)
	*buf = c.srv.proto.AppendReply((*buf)[:0], r)
	c.conn.Send(*buf) // keeps nothing of it
	putBuffer(buf)
}

// begin waits until fewer than maxInFlight says are unanswered: the client feels it as a full TCP window. Every say is
// answered within the log's deadline, so this ends.
func (c *session) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.inFlight >= maxInFlight {
		c.calm.Wait()
	}
	c.inFlight++
}

// done ends what begin began, and the session if that was all it waited for.
func (c *session) done() {
	c.mu.Lock()
	c.inFlight--
	c.calm.Signal()
	last := c.ending
	if c.inFlight > 0 {
		last = nil
	}
	c.mu.Unlock()
	if last != nil {
		c.conn.Close(last.code, last.reason)
	}
}

// finish takes no more commands, and closes as soon as the says under way are answered. Only the first call counts.
func (c *session) finish(notice Reply, code int, reason string) bool {
	c.mu.Lock()
	if c.ending != nil {
		c.mu.Unlock()
		return false
	}
	c.ending = &end{code, reason}
	idle := c.inFlight == 0
	c.mu.Unlock()
	c.reply(notice)
	if idle {
		c.conn.Close(code, reason)
	}
	return true
}

// restart tells the client that this server goes away, and closes.
func (c *session) restart(message string) bool {
	if c.srv.proto.Seamless() {
		return c.finish(Reply{}, hub.CloseRestart, message) // the close code says it all; a notice would promise a grace
	}
	return c.finish(Reply{Kind: Moving, Text: message}, hub.CloseRestart, message)
}

// Identity, Conn, Removed, Deprecated and End are what chat asks of a session.
func (c *session) Identity() chat.Identity { return c.identity }

func (c *session) Conn() *hub.Conn { return c.conn }

func (c *session) Removed(channel, code string) {
	c.forget(channel)
	c.reply(Reply{Kind: Removed, To: Command{Channel: channel}, Code: code})
}

func (c *session) Deprecated(d store.Deprecation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.attached:
		c.notice = &d
	case c.ending == nil:
		c.reply(Reply{Kind: Notice, Deprecation: d})
	}
}

// End closes for good; reason is the error's code.
func (c *session) End(code int, reason string) {
	c.finish(Reply{Kind: Closing, Code: reason}, code, reason)
}

func (c *session) isAttached() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attached
}

func (c *session) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending != nil
}

// remember notes a channel that the session is in; false if it is in too many.
func (c *session) remember(channel string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.channels, channel) {
		return true
	}
	if len(c.channels) >= maxChannels {
		return false
	}
	c.channels = append(c.channels, channel)
	return true
}

func (c *session) forget(channel string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.channels = slices.DeleteFunc(c.channels, func(s string) bool { return s == channel })
}

func (c *session) in(channel string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.channels, channel)
}

// name is the connection's id as operators see it.
func (c *session) name() string { return c.srv.name + "-" + strconv.FormatUint(c.id, 10) }
