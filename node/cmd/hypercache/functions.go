package main

import (
	"fmt"
	"strings"
	"time"
)

// functions loads libraries of functions, before any key is written: one that the cluster refuses ends the restore.
func (w *restoring) functions(texts [][]byte) error {
	for i, text := range texts {
		if err := w.library(text); err != nil {
			return fmt.Errorf("library of functions %d of %d (%.60q): %w", i+1, len(texts), firstLine(text), err)
		}
	}
	return nil
}

func (w *restoring) library(text []byte) error {
	words := []string{"FUNCTION", "LOAD"}
	if w.replace {
		words = append(words, "REPLACE")
	}
	words = append(words, string(text))
	tried := false // and it is not known whether it took effect
	for deadline := time.Now().Add(w.flags.timeout); ; {
		r, err := w.conn.ask(words...)
		exists := strings.HasPrefix(r.err, "ERR Library '") && strings.HasSuffix(r.err, "' already exists")
		switch {
		case err == nil, exists && tried:
			w.report.FunctionsWritten++
			return nil
		case exists:
			w.report.FunctionsExisting++
			return nil
		case r.err == "":
			return w.lost(err)
		case !passing(r.err) || time.Now().After(deadline):
			return err
		}
		tried = tried || strings.HasPrefix(r.err, "NOREPLICAS ")
		if err := pause(w.ctx, retryPause); err != nil {
			return err
		}
	}
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
