package sim

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"

	"hypercache/node/journal"
	"hypercache/node/journal/vfs"
)

// trouble is what is wrong with a node's disk for a while. It outlives processes.
type trouble struct {
	err   syscall.Errno // EIO or ENOSPC; 0: nothing is wrong
	ops   []vfs.Op      // what fails
	odds  float64       // of each of them
	left  int           // how many fail until it is over
	until int64
}

// diskOp is called before every operation of the disk; an error is the operation's.
func (n *node) diskOp(life uint64, op vfs.Op, name string) error {
	if n.life != life {
		return nil
	}
	if n.crashIn > 0 && op != vfs.OpOpen && op != vfs.OpRead {
		if n.crashIn--; n.crashIn == 0 {
			n.crashBefore(op, name)
			return nil
		}
	}
	if n.w.opts.ForgetFailure && n.injected && strings.Contains(name, "hypercache.state") {
		return syscall.EIO
	}
	return n.diskFails(op, name)
}

// crashBefore ends the process where killMidWrite or powerMidWrite wanted it.
func (n *node) crashBefore(op vfs.Op, name string) {
	n.w.count.MidWrite++
	n.w.Tracef("%s crashes before %s %s, power loss %v", n.id, op, name, n.crashPower)
	n.crash(n.crashPower)
	if !n.w.faults.stopped {
		n.w.faults.restartLater(n)
		return
	}
	n.w.After(100*millisecond, func() {
		if !n.alive && n.wanted {
			n.start()
		}
	})
}

// diskFails is the error of an operation that the trouble hits.
func (n *node) diskFails(op vfs.Op, name string) error {
	t := &n.trouble
	if t.err == 0 || !slices.Contains(t.ops, op) {
		return nil
	}
	if n.w.Now > t.until || t.left == 0 {
		*t = trouble{}
		return nil
	}
	if !n.w.Chance(t.odds) {
		return nil
	}
	t.left--
	n.injected = true
	n.w.Tracef("%s: %s %s fails: %v", n.id, op, name, t.err)
	if t.err == syscall.ENOSPC {
		n.w.count.NoSpace++
	} else {
		n.w.count.IOErrors++
		n.lost = n.w.Now
	}
	switch {
	case op == vfs.OpWrite:
		return &vfs.ShortWrite{N: n.w.RNG.IntN(60), Err: t.err}
	case op == vfs.OpSync:
		n.lost = n.w.Now
		return n.failedSync(t.err)
	}
	return t.err
}

// failedSync loses some of what is to be synced, and often shows that only later, or never to this kernel.
func (n *node) failedSync(err error) error {
	if n.w.opts.ForgiveSync {
		err = nil
	}
	return &vfs.FailedSync{Err: err, RNG: rand.New(rand.NewPCG(n.w.RNG.Uint64(), 2)), Evicted: n.w.Chance(0.3)}
}

// sick tells that the disk may soon lose what was acknowledged, or has.
func (n *node) sick() bool {
	return n.trouble.err == syscall.EIO || slices.Contains(n.trouble.ops, vfs.OpSync) || n.unnoted()
}

// lossy tells that the disk has lost something in the last seconds, or is about to.
func (n *node) lossy() bool {
	return n.lost > 0 && n.w.Now-n.lost < 10*second || n.w.faults.rotten[n] || n.sick()
}

// unnoted tells that the journal has failed and the directory does not say so yet.
func (n *node) unnoted() bool {
	return n.closing || n.alive && n.j != nil && !n.w.opts.ForgetFailure && !n.j.Noted()
}

// note writes the failure down if there is one, as a goroutine of the journal does in a node. It tries again until that worked.
func (n *node) note() {
	if !n.unnoted() {
		return
	}
	if n.j.Tick(); n.unnoted() && !n.noting {
		n.noting = true
		n.later(100*millisecond, func() {
			n.noting = false
			n.note()
		})
	}
}

// fails is told by the driver that the journal can't be written any more: the process ends.
func (n *node) fails(err error) {
	if !n.injected {
		n.w.Fail(panicked, "%s: journal: %v", n.id, err)
		return
	}
	if n.failing {
		return
	}
	n.failing = true
	n.w.count.Failures++
	n.w.Tracef("%s: journal: %v", n.id, err)
	n.later(n.w.Between(0, 20*millisecond), n.leave)
}

// noteFor is for how long a process that has failed tries to note that before it ends; see journal.Close.
const noteFor = 10 * second

// leave ends a process whose disk has failed. Others see that at once; the process is held up until its failure is noted.
func (n *node) leave() {
	j := n.j
	if j != nil && errors.Is(j.Err(), journal.ErrFailed) {
		clear(n.voter[:])
	}
	n.die()
	if j == nil {
		n.w.faults.restartLater(n)
		return
	}
	n.closing = true
	life, until := n.life, n.w.Now+noteFor
	n.hook(life)
	var end func()
	end = func() {
		if j.Tick(); !j.Noted() && n.w.Now < until && !n.w.opts.ForgetFailure {
			n.w.After(100*millisecond, end)
			return
		}
		_ = j.Close(true) // its error is the one that it failed with
		n.disk = n.disk.Clone()
		n.closing = false
		n.w.Tracef("%s ends", n.id)
		n.w.faults.restartLater(n)
	}
	end()
}

// hook has the disk ask what becomes of each operation of the process that lives now.
func (n *node) hook(life uint64) {
	ask := func(op vfs.Op, name string) error { return n.diskOp(life, op, name) }
	n.disk.SetHook(ask)
	n.disk.SetReadHook(ask)
}

// ioErrors has one operation of a disk fail, or many for a while, perhaps while the journal is rewritten or recovered.
func (f *faults) ioErrors() {
	w, n := f.w, f.victim()
	if !n.ready || n.trouble.err != 0 || n.crashIn > 0 || f.rotten[n] || !f.spare(n, false) {
		return
	}
	t := trouble{err: syscall.EIO, odds: 1, left: 1, until: w.Now + w.Between(20*millisecond, 3*second)}
	all := []vfs.Op{
		vfs.OpSync, vfs.OpWrite, vfs.OpSync, vfs.OpWrite, vfs.OpCreate, vfs.OpRename, vfs.OpSyncDir, vfs.OpTruncate, vfs.OpRemove,
		vfs.OpOpen, vfs.OpRead,
	}
	switch w.RNG.IntN(4) {
	case 0: // everything, for a while
		t.ops, t.odds, t.left = all, []float64{0.1, 0.5, 1}[w.RNG.IntN(3)], 1000
	case 1: // some of it
		for _, op := range all {
			if w.Chance(0.3) {
				t.ops = append(t.ops, op)
			}
		}
		t.odds, t.left = 0.5, 1+w.RNG.IntN(20)
	default: // once
		t.ops, t.odds = all[w.RNG.IntN(len(all)):][:1], []float64{0.1, 1}[w.RNG.IntN(2)]
	}
	f.afflict(n, t)
}

// fullDisk leaves no space on a disk for a while. Where space is promised that is not there, syncs fail for it too.
func (f *faults) fullDisk() {
	w, n := f.w, f.victim()
	if !n.ready || n.trouble.err != 0 {
		return
	}
	t := trouble{
		err: syscall.ENOSPC, ops: []vfs.Op{vfs.OpWrite}, odds: []float64{0.3, 1, 1}[w.RNG.IntN(3)], left: 10000,
		until: w.Now + w.Between(50*millisecond, 4*second),
	}
	for _, op := range []vfs.Op{vfs.OpCreate, vfs.OpRename, vfs.OpSyncDir} {
		if w.Chance(0.4) {
			t.ops = append(t.ops, op)
		}
	}
	if w.Chance(0.15) && n.crashIn == 0 && !f.rotten[n] && f.spare(n, false) {
		t.ops = append(t.ops, vfs.OpSync)
	}
	f.afflict(n, t)
}

// lostSync is shortLog, with a disk that could not sync what is acknowledged before its power goes. That may be when the process
// which met the error has ended and the next one has told what it found, but has got nothing new on the disk yet.
func (f *faults) lostSync() {
	w := f.w
	p, n, replicas := f.pair()
	if w.Now < f.storm || n == nil {
		return
	}
	f.storm = w.Now + 4*second
	f.healLinks()
	f.pairOff(p, n, replicas)
	f.soon(30*millisecond, 120*millisecond, func() { // until the others have nothing of it
		if !n.ready || n.trouble.err != 0 || n.crashIn > 0 || f.rotten[n] || !f.spare(n, false) {
			return
		}
		n.trouble = trouble{err: syscall.EIO, ops: []vfs.Op{vfs.OpSync}, odds: 1, left: 1000, until: w.Now + 300*millisecond}
		lose := func() { f.losePower(n, p) }
		if w.Chance(0.5) {
			f.soon(20*millisecond, 200*millisecond, lose)
			return
		}
		n.trouble.left = 1 + w.RNG.IntN(2)
		life := n.life
		var look func(left int)
		look = func(left int) {
			if left > 0 && (n.life == life || !n.ready) {
				f.soon(millisecond, 10*millisecond, func() { look(left - 1) })
				return
			}
			n.slow = w.Between(300*millisecond, 3*second)
			f.soon(0, 400*millisecond, lose)
		}
		look(200)
	})
}

// losePower takes the power of n, if that can be borne, and has it go on without p.
func (f *faults) losePower(n, p *node) {
	n.trouble, n.slow = trouble{}, 0
	if n.ready && (n.policy == journal.Always && !f.rotten[n] || f.spare(n, false)) {
		f.w.Tracef("power loss at %s", n.id)
		n.crash(true)
		f.soon(millisecond, 20*millisecond, func() {
			if !n.alive && n.wanted {
				n.start()
			}
		})
	}
	f.healLinks()
	f.cutOff(p)
	f.soon(1500*millisecond, 3*second, f.healLinks)
}

// afflict begins the trouble, and has the node do something that meets it.
func (f *faults) afflict(n *node, t trouble) {
	n.trouble = t
	f.w.Tracef("disk of %s: %v for %v, %v, %d times until %d ms", n.id, t.err, t.ops, t.odds, t.left, t.until/millisecond)
	switch f.w.RNG.IntN(5) {
	case 0, 1:
		n.rewrite()
	case 2:
		f.killNode(n)
	}
}
