package store

// embstrMax is the longest string that Redis 7 keeps in one allocation with its object header, in bytes.
const embstrMax = 44

// Encoding returns what OBJECT ENCODING says by the rules of Redis 7.0. For a collection that is what DB.SetLimits and
// its history imply, not the form that it has here.
func (r Ref) Encoding() string {
	v := r.Value()
	switch t := r.Type(); t {
	case List:
		return "quicklist"
	case Stream:
		return "stream"
	case Set, Hash, ZSet:
		return encodings[t][v[0]/flagLarge]
	}
	switch {
	case r.b.raw():
		return "raw"
	case isCanonicalInt(v):
		return "int"
	case len(v) <= embstrMax:
		return "embstr"
	}
	return "raw"
}

// encodings are the names of the compact and of the large encoding.
var encodings = [...][2]string{Set: {"intset", "hashtable"}, Hash: {"listpack", "hashtable"}, ZSet: {"listpack", "skiplist"}}

// isCanonicalInt reports whether Redis keeps b as a number.
func isCanonicalInt(b []byte) bool {
	_, ok := parseInt(b)
	return ok
}
