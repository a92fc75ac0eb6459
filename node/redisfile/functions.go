package redisfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hypercache/node/rdb"
	"hypercache/node/script"
)

// addFunctions takes libraries in, in place of those of the same names if that is allowed. Whether they can be loaded is left
// to whoever loads them.
func (s *Summary) addFunctions(texts [][]byte, replace bool) error {
	for _, text := range texts {
		name, problem := script.LibraryName(string(text))
		if problem != "" {
			return fmt.Errorf("a library of functions: %s", problem)
		}
		if at := s.findFunctions(name); at >= 0 && !replace {
			return fmt.Errorf("the library of functions %s comes twice", name)
		} else if at >= 0 {
			s.Functions = slices.Delete(s.Functions, at, at+1)
		}
		s.Functions = append(s.Functions, bytes.Clone(text))
	}
	return nil
}

func (s *Summary) findFunctions(name string) int {
	return slices.IndexFunc(s.Functions, func(text []byte) bool {
		have, _ := script.LibraryName(string(text))
		return have == name
	})
}

// function repeats a FUNCTION command of an append-only file.
func function(args [][]byte, sum *Summary) error {
	if len(args) < 2 {
		return errLine
	}
	switch sub := strings.ToUpper(string(args[1])); {
	case sub == "LOAD" && len(args) >= 3:
		return sum.addFunctions(args[len(args)-1:], len(args) > 3)
	case sub == "DELETE" && len(args) == 3:
		at := sum.findFunctions(string(args[2]))
		if at < 0 {
			return fmt.Errorf("FUNCTION DELETE of the library %.100q, which is not there", args[2])
		}
		sum.Functions = slices.Delete(sum.Functions, at, at+1)
		return nil
	case sub == "FLUSH":
		sum.Functions = nil
		return nil
	case sub == "RESTORE" && len(args) >= 3:
		texts, err := rdb.OpenFunctions(args[2])
		if err != nil {
			return fmt.Errorf("FUNCTION RESTORE: %w", err)
		}
		policy := ""
		if len(args) > 3 {
			policy = strings.ToUpper(string(args[3]))
		}
		if policy == "FLUSH" {
			sum.Functions = nil
		}
		return sum.addFunctions(texts, policy == "REPLACE")
	}
	return errors.New("FUNCTION with anything but LOAD, DELETE, FLUSH and RESTORE cannot be taken from an append-only file")
}
