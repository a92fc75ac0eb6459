package main

import (
	"log/slog"

	"hypercache/node/config"
	"hypercache/node/server"
)

func open(cfg config.Config, log *slog.Logger) (node, error) { return server.New(cfg, log) }

// nodeVersion is what the build says it is; see server.Version.
func nodeVersion() string { return server.Version }
