package store

import "math/bits"

// treeCount counts the nodes of a compressed radix tree over IDs that are added in order, as 16 bytes each, the highest
// first: a node for every key, one for every branch, and one for every run of bytes without a branch between two of them.
type treeCount struct {
	keys, branches, runs int
	last                 StreamID
	path                 []int // depths of the branches above the last key
}

// idBytes is the length of a key.
const idBytes = 16

func (t *treeCount) add(id StreamID) {
	if t.keys > 0 {
		t.close(commonBytes(t.last, id))
	}
	t.keys++
	t.last = id
}

// close ends the path of the last key at a branch after n bytes, which is new if there is none.
func (t *treeCount) close(n int) {
	below := t.climb(n)
	if len(t.path) == 0 || t.path[len(t.path)-1] < n {
		t.path = append(t.path, n)
		t.branches++
	}
	t.edge(n, below)
}

// climb leaves the branches of the path that are deeper than n bytes, and returns where the highest of them is.
func (t *treeCount) climb(n int) (below int) {
	below = idBytes
	for len(t.path) > 0 && t.path[len(t.path)-1] > n {
		top := t.path[len(t.path)-1]
		t.path = t.path[:len(t.path)-1]
		t.edge(top, below)
		below = top
	}
	return below
}

// edge counts what is between a branch and what is below it: one byte is the branch's own.
func (t *treeCount) edge(branch, below int) {
	if below > branch+1 {
		t.runs++
	}
}

func (t *treeCount) nodes() int {
	if t.keys == 0 {
		return 1
	}
	t.edge(-1, t.climb(-1))
	return t.keys + t.branches + t.runs
}

func commonBytes(a, b StreamID) int {
	if a.Ms != b.Ms {
		return bits.LeadingZeros64(a.Ms^b.Ms) / 8
	}
	return 8 + bits.LeadingZeros64(a.Seq^b.Seq)/8
}
