package rdb

import (
	"bytes"
	"errors"
)

var errNoFunction = errors.New("no library of functions")

// SealFunctions is FUNCTION DUMP's payload: the libraries as a file has them, and the footer of DUMP.
func SealFunctions(libraries [][]byte) []byte {
	var b []byte
	for _, text := range libraries {
		b = appendString(append(b, opFunction2), text)
	}
	return Seal(b, 0)
}

// OpenFunctions returns the texts of the libraries in FUNCTION DUMP's payload. Errors: ErrPayload, or an *Error where a good
// footer seals something else.
func OpenFunctions(payload []byte) (libraries [][]byte, err error) {
	b, err := Verify(payload)
	if err != nil {
		return nil, err
	}
	r := &Reader{s: &source{r: bytes.NewReader(nil), buf: b}, sink: Discard{}}
	r.reset()
	for r.s.offset() < int64(len(b)) {
		op, err := r.s.byte()
		if err == nil && op != opFunction2 {
			err = errNoFunction
		}
		var text []byte
		if err == nil {
			text, err = r.s.string(nil)
		}
		if err != nil {
			return nil, r.fail(err)
		}
		libraries = append(libraries, text)
	}
	return libraries, nil
}
