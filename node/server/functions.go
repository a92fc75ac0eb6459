package server

import (
	"context"

	"hypercache/node/topology"
)

// ChangeLibraries implements cache.LibraryKeeper.
func (s *Server) ChangeLibraries(ctx context.Context, change topology.LibraryChange) error {
	return s.topology.ChangeLibraries(ctx, change)
}

// LibrariesCurrent implements cache.LibraryKeeper.
func (s *Server) LibrariesCurrent() bool { return s.topology.Leader() != "" }
