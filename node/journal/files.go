package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"hypercache/node/journal/vfs"
	"hypercache/node/ring"
)

// The names in a data directory. The append-only directory is Redis'; the other files are small, ours, and replaced
// as a whole.
const (
	aofDir       = "appendonlydir"
	aofPrefix    = "appendonly.aof"
	manifestName = aofPrefix + ".manifest"
	tempPrefix   = "temp-hypercache-"
	lockName     = "hypercache.lock"
	formatName   = "hypercache.format"
	stateName    = "hypercache.state"
	promisesName = "hypercache.promises"
)

func baseName(seq uint64) string { return aofPrefix + "." + strconv.FormatUint(seq, 10) + ".base.aof" }
func incrName(seq uint64) string { return aofPrefix + "." + strconv.FormatUint(seq, 10) + ".incr.aof" }

// dir is the data directory and its checksum.
type dir struct {
	fs   vfs.FS
	root string
	salt uint64
	seal seal
}

// Lock takes the lock of a data directory that is no journal yet; Open takes the same. The directory exists.
func Lock(dir string) (io.Closer, error) { return vfs.OS{}.Lock(path.Join(dir, lockName)) }

func (d *dir) aof(name string) string { return path.Join(d.root, aofDir, name) }

// replace writes name as a whole: temporary file, sync, rename, sync of the directory.
func (d *dir) replace(folder, name string, data []byte) error {
	temp := path.Join(folder, tempPrefix+name)
	if err := d.create(temp, data); err != nil {
		return err
	}
	if err := d.fs.Rename(temp, path.Join(folder, name)); err != nil {
		return err
	}
	return d.fs.SyncDir(folder)
}

// create writes and syncs a new file; the directory is not synced. On failure the file is removed again.
func (d *dir) create(name string, data []byte) error {
	f, err := d.fs.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = d.fs.Remove(name) // what matters is the first error
	}
	return err
}

// read returns the file's content. The small files have a few kilobytes; a longer one is not ours.
func (d *dir) read(name string) ([]byte, error) {
	f, err := d.fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > 1<<20 {
		return nil, fmt.Errorf("%s: %d bytes are too many: %w", name, size, ErrDamaged)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	return b, nil
}

// sign appends a last line with the checksum of everything before it.
func (s seal) sign(b []byte, lead string) []byte {
	sum := s.sum(b)
	b = append(b, lead...)
	return append(appendHex32(b, sum), '\n')
}

// verify returns what sign got.
func (s seal) verify(b []byte, lead string) (body []byte, ok bool) {
	cut := len(b) - len(lead) - 9
	if cut < 0 || !bytes.Equal(s.sign(bytes.Clone(b[:cut]), lead), b) {
		return nil, false
	}
	return b[:cut], true
}

const sumLead = "crc32c "

// format: one line with the version and the salt, and its checksum. Later versions keep these two lines, so that every
// version can tell "newer" from "damaged".

const formatVersion = 1

func formatFile(salt uint64) []byte {
	return seal(0).sign(fmt.Appendf(nil, "hypercache-journal %d %016x\n", formatVersion, salt), sumLead)
}

func parseFormat(b []byte) (salt uint64, err error) {
	body, ok := seal(0).verify(b, sumLead)
	if !ok {
		return 0, fmt.Errorf("%s fails its checksum: %w", formatName, ErrDamaged)
	}
	var version int
	if _, err := fmt.Sscanf(string(body), "hypercache-journal %d", &version); err != nil {
		return 0, fmt.Errorf("%s: %w", formatName, ErrForeign)
	}
	if version != formatVersion {
		return 0, fmt.Errorf("journal format %d, this program knows %d: %w", version, formatVersion, ErrForeign)
	}
	if _, err := fmt.Sscanf(string(body), "hypercache-journal %d %x", &version, &salt); err != nil {
		return 0, fmt.Errorf("%s: %w", formatName, ErrDamaged)
	}
	return salt, nil
}

// manifest lists the files of the append-only directory in Redis' syntax. The checksum is a comment to Redis.
type manifest struct {
	base  uint64 // 0: none
	incrs []uint64
}

const manifestLead = "#HC:1 manifest "

func (m manifest) encode(s seal) []byte {
	var b []byte
	if m.base != 0 {
		b = fmt.Appendf(b, "file %s seq %d type b\n", baseName(m.base), m.base)
	}
	for _, seq := range m.incrs {
		b = fmt.Appendf(b, "file %s seq %d type i\n", incrName(seq), seq)
	}
	return s.sign(b, manifestLead)
}

func parseManifest(s seal, b []byte) (m manifest, err error) {
	body, ok := s.verify(b, manifestLead)
	if !ok {
		if !bytes.Contains(b, []byte(manifestLead)) && bytes.HasPrefix(b, []byte("file ")) {
			return m, fmt.Errorf("%s was written by redis-server, import it with 'hypercache restore': %w", manifestName, ErrForeign)
		}
		return m, fmt.Errorf("%s fails its checksum: %w", manifestName, ErrDamaged)
	}
	for line := range strings.Lines(string(body)) {
		var name, kind string
		var seq uint64
		_, err := fmt.Sscanf(line, "file %s seq %d type %s\n", &name, &seq, &kind)
		switch {
		case err == nil && kind == "b" && m.base == 0 && seq > 0 && name == baseName(seq):
			m.base = seq
		case err == nil && kind == "i" && name == incrName(seq) && (len(m.incrs) == 0 || seq > m.incrs[len(m.incrs)-1]):
			m.incrs = append(m.incrs, seq)
		default:
			return m, fmt.Errorf("%s: line %q: %w", manifestName, strings.TrimSpace(line), ErrForeign)
		}
	}
	if len(m.incrs) == 0 {
		return m, fmt.Errorf("%s names no increment: %w", manifestName, ErrDamaged)
	}
	return m, nil
}

func (d *dir) writeManifest(m manifest) error {
	return d.replace(path.Join(d.root, aofDir), manifestName, m.encode(d.seal))
}

// groupSet is a set of groups.
type groupSet [ring.Groups / 8]byte

func (s *groupSet) has(g int) bool { return s[g/8]&(1<<(g%8)) != 0 }
func (s *groupSet) add(g int)      { s[g/8] |= 1 << (g % 8) }
func (s *groupSet) remove(g int)   { s[g/8] &^= 1 << (g % 8) }

func allGroups() (s groupSet) {
	for i := range s {
		s[i] = 0xff
	}
	return s
}

func (s *groupSet) list() (groups []uint16) {
	for g := range ring.Groups {
		if s.has(g) {
			groups = append(groups, uint16(g))
		}
	}
	return groups
}

// state decides after a restart whether the node may vote.
type state struct {
	boot   string
	clean  bool
	fsync  Policy
	failed bool // a write or fsync failed: the page cache may have dropped what was acknowledged
	// incomplete groups may miss acknowledged records; they stay so over restarts until they have caught up.
	incomplete groupSet
}

func (st *state) encode(s seal) []byte {
	b := fmt.Appendf(nil, "hypercache-state 1\nboot %q\nclean %t\nfsync %s\nfailed %t\nincomplete %x\n",
		st.boot, st.clean, st.fsync, st.failed, st.incomplete[:])
	return s.sign(b, sumLead)
}

func parseState(s seal, b []byte) (st state, err error) {
	body, ok := s.verify(b, sumLead)
	if !ok {
		return st, fmt.Errorf("%s fails its checksum: %w", stateName, ErrDamaged)
	}
	var policy, set string
	if _, err := fmt.Sscanf(string(body), "hypercache-state 1\nboot %q\nclean %t\nfsync %s\nfailed %t\nincomplete %s\n",
		&st.boot, &st.clean, &policy, &st.failed, &set); err != nil {
		return st, fmt.Errorf("%s: %w: %w", stateName, err, ErrDamaged)
	}
	if st.fsync, err = ParsePolicy(policy); err != nil {
		return st, err
	}
	if n, err := hex.Decode(st.incomplete[:], []byte(set[:min(len(set), 2*len(st.incomplete))])); err != nil || n != len(st.incomplete) {
		return st, fmt.Errorf("%s: group set %q: %w", stateName, set, ErrDamaged)
	}
	return st, nil
}

// intact is the restart rule: can nothing be missing that the last run acknowledged?
func (st *state) intact(boot string) bool {
	return !st.failed && (st.sameBoot(boot) || st.clean || st.fsync == Always)
}

func (st *state) sameBoot(boot string) bool { return boot != "" && st.boot == boot }

func encodePromises(s seal, terms *[ring.Groups]uint64) []byte {
	b := []byte("hypercache-promises 1\n")
	for g, term := range terms {
		b = fmt.Appendf(b, "%d %d\n", g, term)
	}
	return s.sign(b, sumLead)
}

func parsePromises(s seal, b []byte) (terms [ring.Groups]uint64, err error) {
	bad := fmt.Errorf("%s fails its checksum: %w", promisesName, ErrDamaged)
	body, ok := s.verify(b, sumLead)
	if !ok {
		return terms, bad
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	if len(lines) != ring.Groups+1 || lines[0] != "hypercache-promises 1" {
		return terms, bad
	}
	for g, line := range lines[1:] {
		var n int
		if _, err := fmt.Sscanf(line, "%d %d", &n, &terms[g]); err != nil || n != g {
			return terms, bad
		}
	}
	return terms, nil
}

func exists(fsys vfs.FS, folder, name string) (bool, error) {
	names, err := fsys.List(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, n := range names {
		if n == name {
			return true, err
		}
	}
	return false, err
}
