package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// KeptNodeID returns server.node_id, else the id that an earlier start kept in data_dir, else "". Unlike Identify it
// chooses none and writes nothing.
func (c *Config) KeptNodeID() (string, error) {
	if c.Server.NodeID != "" {
		return c.Server.NodeID, nil
	}
	file := filepath.Join(c.Persistence.DataDir, nodeIDFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	id := string(bytes.TrimSpace(b))
	if err == nil && !validID(id) {
		err = fmt.Errorf("%s does not hold one", file)
	}
	if err != nil {
		return "", fmt.Errorf("read node id: %w", err)
	}
	return id, nil
}
