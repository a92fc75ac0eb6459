package command

import "hypercache/node/store"

// Block is what a command asks for that has nothing to answer yet (BLPOP, XREAD BLOCK): no reply was written and nothing
// was changed. The caller runs it again, with the same arguments, each time one of its keys has changed, in the order in
// which commands began to wait for the key, until it no longer asks; or answers with a null array (Writer.NullArray) once
// Until has passed. A repeated run has Ctx.Waited and keeps the first Until. It gets the arguments as the run before left
// them: one that means "from now on" can be replaced by what it stands for.
type Block struct {
	Asked bool
	Until int64 // unix ms, 0 for ever
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
