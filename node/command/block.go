package command

import "hypercache/node/store"

// Block is what a command asks for that has nothing to answer yet (BLPOP, XREAD BLOCK): no reply was written and nothing
// was changed. The caller runs it again, with the same arguments, each time one of its keys has changed, in the order in
// which commands began to wait for the key, until it no longer asks; or answers with a null array (Writer.NullArray) once
// Until has passed. A repeated run has Ctx.Waited and keeps the first Until, and gets Args if there are any.
type Block struct {
	Asked bool
	Until int64 // unix ms, 0 for ever
	// Args replace the arguments in repeated runs, where those depend on the time of the first: XREAD's $. Their keys are
	// the same, at the same places. They are copies that the caller may keep; nil for no change.
	Args [][]byte
}

// WaitsFor is the type of key that a waiting command is served from; None if it wants to be run after every change of its
// keys, a deletion too.
func (s *Spec) WaitsFor() store.Type {
	switch s.Name {
	case "blpop", "brpop", "blmove", "brpoplpush", "blmpop":
		return store.List
	case "bzpopmin", "bzpopmax", "bzmpop":
		return store.ZSet
	}
	return store.None
}

// block asks for the command to wait for its keys, those that Keys finds, until a time in unix ms (0 for ever). Where
// waiting is not possible (MULTI, scripts) it writes the reply of a wait without success.
func (c *Ctx) block(until int64) {
	if c.NoBlock {
		c.W.NullArray()
		return
	}
	c.Block = Block{Asked: true, Until: until}
}
