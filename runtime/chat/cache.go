package chat

import (
	"context"
	"sync"
)

// cache remembers what was read from the database until a change drops it. One read per key runs at a time, whoever asks. What was
// read while a drop came is handed to those who waited, but not kept: it may be older than the change.
type cache[K comparable, V any] struct {
	mu     sync.Mutex
	max    int
	values map[K]V
	loads  map[K]*load[V]
}

type load[V any] struct {
	done  chan struct{}
	value V
	err   error
}

func newCache[K comparable, V any](max int) *cache[K, V] {
	return &cache[K, V]{max: max, values: map[K]V{}, loads: map[K]*load[V]{}}
}

// get returns the value of key, read by fn on a miss. A read goes on for those who wait when ctx ends. Errors are not remembered.
func (c *cache[K, V]) get(ctx context.Context, key K, fn func(context.Context) (V, error)) (V, error) {
	c.mu.Lock()
	if v, ok := c.values[key]; ok {
		c.mu.Unlock()
		return v, nil
	}
	l := c.loads[key]
	if l == nil {
		l = &load[V]{done: make(chan struct{})}
		c.loads[key] = l
		c.mu.Unlock()
		c.run(ctx, key, l, fn)
		return l.value, l.err
	}
	c.mu.Unlock()
	select {
	case <-l.done:
		return l.value, l.err
	case <-ctx.Done():
		var zero V
		return zero, ctx.Err()
	}
}

// peek returns the value of key if it is remembered.
func (c *cache[K, V]) peek(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.values[key]
	return v, ok
}

func (c *cache[K, V]) run(ctx context.Context, key K, l *load[V], fn func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dbTimeout)
	defer cancel()
	l.value, l.err = fn(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loads[key] == l {
		delete(c.loads, key)
		if l.err == nil {
			c.putLocked(key, l.value)
		}
	}
	close(l.done)
}

func (c *cache[K, V]) putLocked(key K, v V) {
	if len(c.values) >= c.max {
		for k := range c.values { // a sixteenth at random, so that this is rare
			delete(c.values, k)
			if len(c.values) <= c.max-c.max/16-1 {
				break
			}
		}
	}
	c.values[key] = v
}

func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.values, key)
	delete(c.loads, key)
}

// dropWhere drops the values that match and every read under way.
func (c *cache[K, V]) dropWhere(match func(K, V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, v := range c.values {
		if match(k, v) {
			delete(c.values, k)
		}
	}
	clear(c.loads)
}
