package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"hypercache/node/ring"
)

// Inspection is what Inspect found. Recovery is what the next Replay would find, if it ran under the same kernel boot.
type Inspection struct {
	Recovery
	// Promises holds each group's promised term.
	Promises [ring.Groups]uint64
	// Complete tells of each group that no record can be missing which this node ever acknowledged: it may vote.
	Complete [ring.Groups]bool
}

// Inspect reads a data directory that no process uses, hands its records to fn as Replay does, and changes nothing: the
// lock file alone names this process afterwards. A directory that is missing or holds no journal is Fresh.
// Errors: ErrLocked, ErrForeign, ErrDamaged, or the file system's.
func Inspect(o Options, fn func(Record) error) (Inspection, error) {
	o = o.withDefaults()
	j := &Journal{o: o, log: o.Logger, dir: &dir{fs: o.FS, root: o.Dir}}
	found, err := exists(o.FS, o.Dir, formatName)
	if err == nil && !found {
		err = j.refuseForeign()
	}
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect journal in %s: %w", o.Dir, err)
	}
	if !found {
		return Inspection{Recovery: Recovery{Fresh: true}}, nil
	}
	lock, err := o.FS.Lock(path.Join(o.Dir, lockName))
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect journal: %w", err)
	}
	out, err := j.inspect(fn)
	if err = errors.Join(err, lock.Close()); err != nil {
		return out, fmt.Errorf("inspect journal in %s: %w", o.Dir, err)
	}
	return out, nil
}

func (j *Journal) inspect(fn func(Record) error) (out Inspection, err error) {
	if err := j.lookFormat(); err != nil {
		return out, err
	}
	if err := j.lookManifest(); err != nil {
		return out, err
	}
	if err := j.readSmall(); err != nil {
		return out, err
	}
	r := &recovery{
		dir: j.dir, log: j.log, fn: fn, prev: j.prev, boot: j.o.BootID, look: true,
		sizes: map[string]int64{}, corrupt: map[string]bool{},
	}
	if err := r.run(j.manifest); err != nil {
		return out, err
	}
	damaged := r.out.Damaged
	j.judge(r)
	out.Recovery, out.Promises = r.out, j.promises
	out.Damaged = damaged
	for g := range out.Complete {
		out.Complete[g] = !j.incomplete.has(g)
	}
	return out, nil
}

// lookFormat finds the salt as openFormat does.
func (j *Journal) lookFormat() error {
	d := j.dir
	b, err := d.read(path.Join(d.root, formatName))
	if err != nil {
		return err
	}
	d.salt, err = parseFormat(b)
	if errors.Is(err, ErrDamaged) {
		if salt, found := j.saltFromFiles(); found {
			d.salt, err = salt, nil
		}
	}
	d.seal = newSeal(d.salt)
	return err
}

// lookManifest reads the manifest. There is none yet, and no record, where the very first start was interrupted.
func (j *Journal) lookManifest() error {
	d := j.dir
	b, err := d.read(d.aof(manifestName))
	if err == nil {
		j.manifest, err = parseManifest(d.seal, b)
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := j.recordsWithoutManifest(); err != nil {
		return err
	}
	j.fresh = true
	return nil
}

// recordsWithoutManifest fails if an append-only file holds records although no manifest names it.
func (j *Journal) recordsWithoutManifest() error {
	d := j.dir
	names, err := d.fs.List(path.Join(d.root, aofDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		size, err := fileSize(d.fs, d.aof(name))
		if err != nil {
			return err
		}
		if size > int64(fileHeaderLen) && !strings.HasPrefix(name, tempPrefix) {
			return fmt.Errorf("%s is missing but %s is there: %w", manifestName, name, ErrDamaged)
		}
	}
	return nil
}
