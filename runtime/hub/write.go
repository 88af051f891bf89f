package hub

import (
	"bytes"
	"net"
	"sync"
)

// drainBytes is how much the drainer takes at a time, so that Pending tells the truth while it works.
const drainBytes = 64 << 10

// Send writes ready frames, or queues what the socket does not take. It never blocks and does not keep the slice. A client
// that lets answers pile up to twice MaxPending is cut.
func (c *Conn) Send(frames []byte) {
	if len(frames) == 0 {
		return
	}
	c.mu.Lock()
	if c.state != connOpen {
		c.mu.Unlock()
		return
	}
	slow := c.queued > 0 && c.queued+len(frames) > 2*c.hub.o.MaxPending
	var err error
	if !slow {
		err = c.putLocked(frames, false)
	}
	c.mu.Unlock()
	c.settle(slow, err)
}

// settle does what a write asks for and must not be done under the lock.
func (c *Conn) settle(slow bool, err error) {
	switch {
	case err != nil:
		c.kill()
	case slow:
		c.hub.stats.cut.Add(1)
		c.Close(CloseSlow, "reading too slowly")
	}
}

// control takes what gorilla writes by itself.
func (c *Conn) control(p []byte) bool {
	c.mu.Lock()
	if c.state == connClosed {
		c.mu.Unlock()
		return false
	}
	if c.state != connOpen { // our close frame was the last
		c.mu.Unlock()
		return true
	}
	slow := c.queued > 2*c.hub.o.MaxPending
	var err error
	if !slow {
		err = c.putLocked(p, false)
		if p[0] == opClose {
			c.closingLocked()
		}
	}
	c.mu.Unlock()
	c.settle(slow, err)
	return err == nil
}

// Cork holds back what is sent until Uncork or UncorkLater, so that an acknowledgement and what it acknowledges go out in one
// write. The caller must not wait for anything in between.
func (c *Conn) Cork() {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
}

// UncorkLater uncorks with the next burst of fan-out, behind what was delivered by now.
func (c *Conn) UncorkLater() { c.hub.work.push(task{corked: c}) }

// Uncork sends what Cork held back.
func (c *Conn) Uncork() {
	c.mu.Lock()
	err := c.uncorkLocked()
	c.mu.Unlock()
	c.settle(false, err)
}

func (c *Conn) uncorkLocked() error {
	held := c.held
	c.corked, c.held = false, nil
	if len(held) == 0 || c.state == connClosed {
		return nil
	}
	err := c.writeLocked(held, false)
	helds.Put(&held)
	return err
}

// helds keeps the memory of what was held back. More than maxHeldBytes is not held back.
var helds = sync.Pool{New: func() any { return new([]byte) }}

const maxHeldBytes = 8 << 10

// holdLocked takes p if the connection is corked and nothing waits already. A close frame is the last: nothing is worth holding
// back for it.
func (c *Conn) holdLocked(p []byte) bool {
	if !c.corked || c.draining || p[0] == opClose || len(c.held)+len(p) > maxHeldBytes {
		return false
	}
	if c.held == nil {
		c.held = (*helds.Get().(*[]byte))[:0]
	}
	c.held = append(c.held, p...)
	return true
}

// putLocked is the one way by which bytes enter the line. With shared the slice is never written to again by anybody and
// may be kept; else what cannot be written now is copied.
func (c *Conn) putLocked(p []byte, shared bool) error {
	c.sent += uint64(len(p))
	if c.holdLocked(p) {
		return nil
	}
	if len(c.held) > 0 { // it comes first
		if err := c.uncorkLocked(); err != nil {
			return err
		}
	}
	return c.writeLocked(p, shared)
}

func (c *Conn) writeLocked(p []byte, shared bool) error {
	if !c.draining && len(c.queue) == 0 && c.sock != nil {
		n, err := c.sock.writeNow(p)
		if err != nil {
			return err
		}
		if p = p[n:]; len(p) == 0 {
			return nil
		}
	}
	if !shared {
		p = bytes.Clone(p)
	}
	c.queue = append(c.queue, p)
	c.queued += len(p)
	if !c.draining {
		c.draining = true
		c.progress = c.hub.clock.Load()
		if !c.hub.spawn(c.drain) {
			return net.ErrClosed
		}
	}
	return nil
}

// drain empties the queue with blocking writes, then lets the channels catch up that were held back, and is gone.
func (c *Conn) drain() {
	for {
		bufs, size := c.take()
		if size == 0 {
			return
		}
		if _, err := bufs.WriteTo(c.nc); err != nil {
			c.kill()
			return
		}
		c.mu.Lock()
		c.queued -= size
		c.progress = c.hub.clock.Load()
		c.mu.Unlock()
	}
}

// take removes the head of the queue. With nothing left it ends the drainer's work: nothing is draining any more.
func (c *Conn) take() (net.Buffers, int) {
	c.mu.Lock()
	n, size := 0, 0
	for n < len(c.queue) && (n == 0 || size+len(c.queue[n]) <= drainBytes) {
		size += len(c.queue[n])
		n++
	}
	if n > 0 {
		bufs := c.queue[:n:n]
		if c.queue = c.queue[n:]; len(c.queue) == 0 {
			c.queue = nil
		}
		c.mu.Unlock()
		return bufs, size
	}
	c.draining = false
	leaving := c.state == connLeaving
	parked := c.parked
	c.parked = nil
	c.mu.Unlock()
	if leaving {
		c.kill()
	}
	for _, s := range parked {
		s.room.catchUp(s)
	}
	return nil, 0
}
