package virtual

import (
	"fmt"
	"slices"
)

// The kinds of violations that clients can see.
const (
	LostWrite = "lost-write"
	StaleRead = "stale-read"
	DirtyRead = "dirty-read"
)

// History is what clients know of one list. Every append is of an id of its own. The zero value is an empty one.
type History struct {
	Acked   []uint32       // ids in the order of their acknowledgement
	Longest []uint32       // longest list that a read returned
	place   map[uint32]int // id to its index in Longest
}

// Mark is how far a history had come when an operation was invoked.
type Mark struct{ acked, longest int }

// Mark returns how far the history has come.
func (h *History) Mark() Mark { return Mark{len(h.Acked), len(h.Longest)} }

// Saw takes a list that a read returned which was invoked at the mark. The list continues or is the beginning of every other list
// read, is not shorter than one returned before the read began, and has every append acknowledged before that; otherwise Saw
// returns the kind of violation and says what is wrong.
func (h *History) Saw(list []uint32, from Mark) (kind, what string) {
	if !h.Agrees(list) {
		return DirtyRead, fmt.Sprintf("a read returned %v, another %v", list, h.Longest)
	}
	if len(list) < from.longest {
		return StaleRead, fmt.Sprintf("read of %d values began after one of %d had ended", len(list), from.longest)
	}
	h.Extend(list)
	for _, id := range h.Acked[:from.acked] {
		if _, ok := h.place[id]; !ok {
			return LostWrite, fmt.Sprintf("append %d was acknowledged, a later read lacks it", id)
		}
		if !h.In(id, list) {
			return StaleRead, fmt.Sprintf("append %d was acknowledged before the read began", id)
		}
	}
	return "", ""
}

// Agrees tells that list and the longest one read are the same as far as both go.
func (h *History) Agrees(list []uint32) bool {
	n := min(len(list), len(h.Longest))
	return slices.Equal(list[:n], h.Longest[:n])
}

// Extend makes list, which agrees, the longest one read if it is.
func (h *History) Extend(list []uint32) {
	if h.place == nil {
		h.place = map[uint32]int{}
	}
	for i := len(h.Longest); i < len(list); i++ {
		h.Longest = append(h.Longest, list[i])
		h.place[list[i]] = i
	}
}

// In tells that list, which agrees and by which the history was extended, has the append.
func (h *History) In(id uint32, list []uint32) bool {
	at, ok := h.place[id]
	return ok && at < len(list)
}

// Lost returns an append that was acknowledged and that no read has shown.
func (h *History) Lost() (id uint32, lost bool) {
	for _, id := range h.Acked {
		if _, ok := h.place[id]; !ok {
			return id, true
		}
	}
	return 0, false
}
