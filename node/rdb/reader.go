package rdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Reader reads one file, or one value.
type Reader struct {
	s       *source
	sink    Sink
	version int
	key     Key
	inKey   bool
	a, b    []byte // strings, reused
	keep    []byte // a string that outlives a and b: a packed container, a stream's node
	// Unsummed is set by Read if the file carries no checksum (rdbchecksum no): bit flips were not detected then.
	Unsummed bool
}

// NewReader returns a reader of a file. Nothing is read before Read.
func NewReader(r io.Reader) *Reader { return &Reader{s: newSource(r)} }

// Version is the file's version of the format, known once Read has returned.
func (r *Reader) Version() int { return r.version }

// Rest is what comes behind the file, once Read has succeeded: an append-only file may begin with an RDB file.
func (r *Reader) Rest() io.Reader { return r.s.rest() }

// Offset is how many bytes were read.
func (r *Reader) Offset() int64 { return r.s.offset() }

// Read reads the whole file, checksum included. The error is an *Error.
func (r *Reader) Read(sink Sink) error {
	r.sink = sink
	if err := r.read(); err != nil {
		return r.fail(err)
	}
	return nil
}

func (r *Reader) fail(err error) error {
	e := &Error{Offset: r.s.offset(), Err: err}
	if r.inKey {
		e.Key = bytes.Clone(r.key.Name)
		if e.Key == nil {
			e.Key = []byte{}
		}
	}
	return e
}

func (r *Reader) read() error {
	if err := r.header(); err != nil {
		return err
	}
	r.reset()
	for {
		op, err := r.s.byte()
		if err != nil {
			return err
		}
		if op == opEOF {
			return r.end()
		}
		if op >= opFunction2 {
			err = r.opcode(op)
		} else {
			err = r.entry(op)
		}
		if err != nil {
			return err
		}
	}
}

func (r *Reader) reset() {
	r.key = Key{Name: r.key.Name[:0], IdleSeconds: -1, Freq: -1}
	r.inKey = false
}

func (r *Reader) header() error {
	var b [9]byte
	if err := r.s.full(b[:]); err != nil {
		if errors.Is(err, ErrTruncated) && !bytes.HasPrefix([]byte("REDIS"), b[:min(5, r.s.offset())]) {
			return ErrForeign
		}
		return err
	}
	v, err := strconv.Atoi(string(b[5:]))
	if string(b[:5]) != "REDIS" || err != nil || v < 0 {
		return ErrForeign
	}
	if v < MinVersion || v > MaxVersion {
		return fmt.Errorf("%w %d of the format: %d to %d can be read", ErrVersion, v, MinVersion, MaxVersion)
	}
	r.version = v
	return nil
}

func (r *Reader) end() error {
	want := r.s.sum()
	got, err := r.s.uint64()
	if err != nil {
		return err
	}
	r.Unsummed = got == 0
	if got != 0 && got != want {
		return ErrChecksum
	}
	return nil
}

func (r *Reader) opcode(op byte) (err error) {
	switch op {
	case opAux:
		if r.a, err = r.s.string(r.a[:0]); err != nil {
			return err
		}
		if r.b, err = r.s.string(r.b[:0]); err != nil {
			return err
		}
		return r.sink.Aux(r.a, r.b)
	case opFunction2:
		if r.a, err = r.s.string(r.a[:0]); err != nil {
			return err
		}
		return r.sink.Function(r.a)
	case opSelectDB:
		db, err := r.s.count()
		if err != nil {
			return err
		}
		return r.sink.SelectDB(db)
	case opResizeDB: // hints for the sizes of hash tables
		if _, err := r.s.count(); err != nil {
			return err
		}
		_, err := r.s.count()
		return err
	case opModuleAux:
		id, err := r.s.count()
		if err != nil {
			return err
		}
		return fmt.Errorf("data of the module %s cannot be read", moduleName(id))
	case opFunctionPreGA:
		return errors.New("a library of functions of a preview of Redis 7.0 cannot be read")
	}
	return r.property(op)
}

// property reads what stands before a key.
func (r *Reader) property(op byte) error {
	switch op {
	case opExpireTimeMillis:
		at, err := r.s.uint64()
		r.key.ExpireAt = int64(at)
		return expiry(int64(at), err)
	case opExpireTimeSeconds:
		var b [4]byte
		err := r.s.full(b[:])
		r.key.ExpireAt = int64(int32(binary.LittleEndian.Uint32(b[:]))) * 1000
		return expiry(r.key.ExpireAt, err)
	case opFreq:
		freq, err := r.s.byte()
		r.key.Freq = int(freq)
		return err
	case opIdle:
		idle, err := r.s.count()
		if err == nil && idle > 1<<40 {
			err = fmt.Errorf("idle for %d seconds", idle)
		}
		r.key.IdleSeconds = int64(idle)
		return err
	}
	return fmt.Errorf("unknown opcode %d", op)
}

// expiry refuses what would mean "no expiry" here.
func expiry(at int64, err error) error {
	if err == nil && at <= 0 {
		err = fmt.Errorf("expiry at %d", at)
	}
	return err
}

// entry reads a key and its value.
func (r *Reader) entry(kind byte) (err error) {
	if err := r.known(kind); err != nil {
		return err
	}
	if r.key.Name, err = r.s.string(r.key.Name[:0]); err != nil {
		return err
	}
	r.inKey = true
	if err := r.value(kind); err != nil {
		return err
	}
	r.reset()
	return nil
}

// known refuses the types that cannot be read, with their names.
func (r *Reader) known(kind byte) error {
	switch kind {
	case typeModule, typeModule2:
		return r.module(kind)
	case typeHashZipmap:
		return errors.New("a hash as zipmap, which Redis wrote before 2.6, cannot be read")
	}
	if int(kind) >= len(forms) || forms[kind].t == 0 || forms[kind].since > r.version {
		return fmt.Errorf("unknown type %d of a value", kind)
	}
	return nil
}

// module names the key and the module of a value that cannot be read.
func (r *Reader) module(kind byte) (err error) {
	if r.version > 0 { // in a file the key comes first
		if r.key.Name, err = r.s.string(r.key.Name[:0]); err != nil {
			return err
		}
		r.inKey = true
	}
	id, err := r.s.count()
	if err != nil {
		return err
	}
	return fmt.Errorf("a value of the module %s (type %d) cannot be read", moduleName(id), kind)
}

// moduleName is the name in the id of a module's type: nine characters of six bits above a version of ten.
func moduleName(id uint64) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var name [9]byte
	for i := range name {
		name[i] = alphabet[id>>(64-6*(i+1))&63]
	}
	return fmt.Sprintf("%q version %d", name, id&1023)
}

func (r *Reader) value(kind byte) error {
	r.key.Type, r.key.Encoding = forms[kind].t, forms[kind].name
	if err := r.sink.Begin(&r.key); err != nil {
		return err
	}
	if err := r.content(kind); err != nil {
		return err
	}
	return r.sink.End()
}
