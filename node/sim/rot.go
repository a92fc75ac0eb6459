package sim

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
)

// The checksums of the journal's records, as its DESIGN.md describes them.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func saltOf(file []byte) (seed uint32, ok bool) {
	const lead = "#HC:1 file "
	if len(file) < len(lead)+16 || string(file[:len(lead)]) != lead {
		return 0, false
	}
	salt, err := strconv.ParseUint(string(file[len(lead):len(lead)+16]), 16, 64)
	if err != nil {
		return 0, false
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], salt)
	return crc32.Update(0, castagnoli, b[:]), true
}

// overwrite puts record in place of one of the same length, whose line is head, with checksums that fit.
func (n *node) overwrite(name string, off int, seed uint32, head string, record []byte) bool {
	fields := strings.Fields(head)
	if len(fields) != 8 {
		return false
	}
	line := strings.Join(fields[:6], " ") + " "
	line += fmt.Sprintf("%08x ", crc32.Update(seed, castagnoli, record))
	line += fmt.Sprintf("%08x\r\n", crc32.Update(seed, castagnoli, []byte(line)))
	old, err := n.disk.ReadFile(name)
	if err != nil {
		return false
	}
	for i, c := range slices.Concat([]byte(line), record) {
		if old[off+i] != c && !n.disk.Flip(name, int64(off+i), old[off+i]^c) {
			return false
		}
	}
	n.w.count.Rots++
	n.w.Tracef("forged rot at %s: %s offset %d: %q", n.id, name, off, record)
	return true
}
