package store

// Type is the Redis type of a value. It is kept in the header of every entry; the value of another type than
// String is in the same place, in this package's own encoding.
type Type uint8

// The types of Redis, in the order of its object header. An entry's header has three bits for them.
const (
	None Type = iota
	String
	List
	Set
	ZSet
	Hash
	Stream
)

var typeNames = [...]string{"none", "string", "list", "set", "zset", "hash", "stream"}

// String returns the name that the TYPE command answers with.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "unknown"
}
