package command

// Class is the kind of a keyspace notification, one bit each as in Redis' notify-keyspace-events.
type Class uint16

// The classes of notifications, with their letters in notify-keyspace-events.
const (
	ClassGeneric Class = 1 << iota // g: DEL, EXPIRE, RENAME, …
	ClassString                    // $
	ClassList                      // l
	ClassSet                       // s
	ClassHash                      // h
	ClassZSet                      // z
	ClassStream                    // t
	ClassExpired                   // x
	ClassEvicted                   // e
	ClassKeyMiss                   // m
	ClassNew                       // n
)

// Event is something that happened to a key: a notification, or with an empty Name a change of its value.
type Event struct {
	Class Class
	Name  string
	Key   []byte // nil in a change: every key of the shard
}

// Events collects what commands did to keys, in order, for those who watch keys, cache them or wait for them. All methods
// do nothing on a nil receiver.
type Events struct {
	List  []Event
	arena []byte
}

// Reset empties e and keeps its memory.
func (e *Events) Reset() {
	if e != nil {
		e.List, e.arena = e.List[:0], e.arena[:0]
	}
}

func (e *Events) add(class Class, name string, key []byte) {
	if e == nil {
		return
	}
	if key != nil {
		start := len(e.arena)
		e.arena = append(e.arena, key...)
		key = e.arena[start:len(e.arena):len(e.arena)]
	}
	e.List = append(e.List, Event{class, name, key})
}

// changed says that the value of a key, or its expiry, is not what it was (Redis' signalModifiedKey). Every write calls
// it for every key that it changed.
func (c *Ctx) changed(key []byte) {
	if c.Events != nil { // seen here, so that it costs no call where nobody wants to know
		c.Events.add(0, "", key)
	}
}

// changedAll says that every key of the shard was removed.
func (c *Ctx) changedAll() { c.Events.add(0, "", nil) }

// notify is a keyspace notification, where Redis has one (its notifyKeyspaceEvent), in its order.
func (c *Ctx) notify(class Class, name string, key []byte) {
	if c.Events != nil {
		c.Events.add(class, name, key)
	}
}
