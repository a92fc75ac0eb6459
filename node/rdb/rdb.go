package rdb

import (
	"fmt"
	"strconv"
)

// Versions of the format.
const (
	// MinVersion and MaxVersion are the first and the last that can be read.
	MinVersion, MaxVersion = 6, 11
	// Version is what is written: Redis 7.0's.
	Version = 10
)

// Type is the type of a value.
type Type uint8

// The types of Redis.
const (
	String Type = iota + 1
	List
	Set
	ZSet
	Hash
	Stream
)

func (t Type) String() string {
	switch t {
	case String:
		return "string"
	case List:
		return "list"
	case Set:
		return "set"
	case ZSet:
		return "zset"
	case Hash:
		return "hash"
	case Stream:
		return "stream"
	}
	return "type " + strconv.Itoa(int(t))
}

// Key is what a file says about a key besides its value.
type Key struct {
	Name []byte
	Type Type
	// ExpireAt is in unix milliseconds, 0 for never. It may be in the past.
	ExpireAt int64
	// IdleSeconds and Freq are the clocks of eviction, -1 if the file has none.
	IdleSeconds int64
	Freq        int
	// Encoding is Redis' name of the form in the file: "quicklist2", "intset", ….
	Encoding string
}

// Sink takes what a Reader finds, in the file's order. Between Begin and End come the calls that fit the key's type: one
// String; or any number of Element (first to last), Member, Field or Scored; or of StreamEntry, then one StreamState, then
// any number of StreamGroup. No such call at all is an empty collection, which no Redis keeps. The slices that a sink is
// given are valid until it returns; an error ends the reading and is returned as it is, wrapped in an Error.
type Sink interface {
	// Aux is a remark of the writer: redis-ver, ctime, aof-base, ….
	Aux(name, value []byte) error
	// Function is the source text of a library of functions, "#!lua name=…".
	Function(text []byte) error
	// SelectDB says in which database the keys that follow are.
	SelectDB(db uint64) error
	Begin(k *Key) error
	String(value []byte) error
	Element(element []byte) error
	Member(member []byte) error
	Field(field, value []byte) error
	Scored(member []byte, score float64) error
	StreamEntry(e *StreamEntry) error
	StreamState(s *StreamState) error
	StreamGroup(g *StreamGroup) error
	End() error
}

// Discard is a Sink that takes everything and keeps nothing. Embed it to take less than everything.
type Discard struct{}

func (Discard) Aux([]byte, []byte) error       { return nil }
func (Discard) Function([]byte) error          { return nil }
func (Discard) SelectDB(uint64) error          { return nil }
func (Discard) Begin(*Key) error               { return nil }
func (Discard) String([]byte) error            { return nil }
func (Discard) Element([]byte) error           { return nil }
func (Discard) Member([]byte) error            { return nil }
func (Discard) Field([]byte, []byte) error     { return nil }
func (Discard) Scored([]byte, float64) error   { return nil }
func (Discard) StreamEntry(*StreamEntry) error { return nil }
func (Discard) StreamState(*StreamState) error { return nil }
func (Discard) StreamGroup(*StreamGroup) error { return nil }
func (Discard) End() error                     { return nil }

// Error says what is wrong with a file, and where.
type Error struct {
	// Offset counts bytes from the start of the file or payload.
	Offset int64
	// Key is the key whose value was being read, nil outside of values.
	Key []byte
	Err error
}

func (e *Error) Error() string {
	if e.Key == nil {
		return fmt.Sprintf("offset %d: %v", e.Offset, e.Err)
	}
	key := e.Key
	if len(key) > 100 {
		key = append(key[:100:100], "…"...)
	}
	return fmt.Sprintf("offset %d, key %q: %v", e.Offset, key, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// The types of values in the file.
const (
	typeString          = 0
	typeList            = 1
	typeSet             = 2
	typeZSet            = 3
	typeHash            = 4
	typeZSet2           = 5
	typeModule          = 6
	typeModule2         = 7
	typeHashZipmap      = 9
	typeListZiplist     = 10
	typeSetIntset       = 11
	typeZSetZiplist     = 12
	typeHashZiplist     = 13
	typeListQuicklist   = 14
	typeStream          = 15
	typeHashListpack    = 16
	typeZSetListpack    = 17
	typeListQuicklist2  = 18
	typeStream2         = 19
	typeSetListpack     = 20
	typeStream3         = 21
	lastType            = typeStream3
	opFunction2         = 245
	opFunctionPreGA     = 246
	opModuleAux         = 247
	opIdle              = 248
	opFreq              = 249
	opAux               = 250
	opResizeDB          = 251
	opExpireTimeMillis  = 252
	opExpireTimeSeconds = 253
	opSelectDB          = 254
	opEOF               = 255
)

// form is one way to write a value.
type form struct {
	t    Type
	name string
	// since is the version of the format that introduced it.
	since int
}

// forms are indexed by the type byte.
var forms = [lastType + 1]form{
	typeString:         {String, "string", 1},
	typeList:           {List, "linkedlist", 1},
	typeSet:            {Set, "hashtable", 1},
	typeZSet:           {ZSet, "skiplist with decimal scores", 1},
	typeHash:           {Hash, "hashtable", 1},
	typeZSet2:          {ZSet, "skiplist", 8},
	typeListZiplist:    {List, "ziplist", 4},
	typeSetIntset:      {Set, "intset", 4},
	typeZSetZiplist:    {ZSet, "ziplist", 4},
	typeHashZiplist:    {Hash, "ziplist", 4},
	typeListQuicklist:  {List, "quicklist", 7},
	typeStream:         {Stream, "listpacks", 9},
	typeHashListpack:   {Hash, "listpack", 10},
	typeZSetListpack:   {ZSet, "listpack", 10},
	typeListQuicklist2: {List, "quicklist2", 10},
	typeStream2:        {Stream, "listpacks2", 10},
	typeSetListpack:    {Set, "listpack", 11},
	typeStream3:        {Stream, "listpacks3", 11},
}
