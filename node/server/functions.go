package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"context"

	"hypercache/node/cache"
	"hypercache/node/rdb"
	"hypercache/node/topology"
)

// ChangeLibraries implements cache.LibraryKeeper.
func (s *Server) ChangeLibraries(ctx context.Context, change topology.LibraryChange) error {
	return s.topology.ChangeLibraries(ctx, change)
}

// LibrariesCurrent implements cache.LibraryKeeper.
func (s *Server) LibrariesCurrent() bool { return s.topology.Leader() != "" }

// ChangeUsers implements cache.UserKeeper.
func (s *Server) ChangeUsers(ctx context.Context, change topology.UserChange) (deleted int, err error) {
	return s.topology.ChangeUsers(ctx, change)
}

// functionsFile holds the libraries of an import until the topology has them.
const functionsFile = "hypercache.functions"

// checkFunctions loads libraries that redis-server left, so that an import is refused as a whole.
func (s *Server) checkFunctions(texts [][]byte) error {
	_, err := compileFunctions(texts)
	return err
}

func compileFunctions(texts [][]byte) ([]topology.Library, error) {
	var list []topology.Library
	size := 0
	for _, text := range texts {
		l, problem := cache.CompileLibrary(text)
		if problem != "" {
			line, _, _ := strings.Cut(string(text), "\n")
			return nil, fmt.Errorf("the library of functions that begins with %.100q: %s", line, problem)
		}
		if size += l.Size(); size > topology.MaxLibraries {
			return nil, fmt.Errorf("the libraries of functions are too large: together they may have %d bytes", topology.MaxLibraries)
		}
		list = append(list, l)
	}
	return list, nil
}

// writeFunctions writes the file, durably; none if there is nothing to write.
func writeFunctions(dir string, texts [][]byte) error {
	if len(texts) == 0 {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, functionsFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(rdb.SealFunctions(texts))
	return errors.Join(err, f.Sync(), f.Close(), syncDir(dir))
}

// importFunctions has the topology take the libraries of an import, and then forgets the file. The node is not ready before.
// An error ends the node: whoever imported them counts on them.
func (s *Server) importFunctions(ctx context.Context) error {
	file := filepath.Join(s.cfg.Persistence.DataDir, functionsFile)
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	texts, err := rdb.OpenFunctions(b)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	list, err := compileFunctions(texts)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, s.cfg.Cluster.AckTimeout)
		err := s.topology.ChangeLibraries(attempt, topology.LibraryChange{Load: list, Replace: true})
		cancel()
		var refused *topology.LibraryError
		switch {
		case err == nil:
			if err := errors.Join(os.Remove(file), syncDir(filepath.Dir(file))); err != nil {
				return err
			}
			s.log.Info("the imported libraries of functions are in the topology", "libraries", len(list))
			s.importing.Store(false)
			return nil
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &refused):
			return fmt.Errorf("%s: %w", file, err)
		}
		s.log.Warn("the imported libraries of functions are not in the topology yet", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}
