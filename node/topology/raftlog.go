package topology

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// routine are the beginnings of what Raft warns of again and again while a node is away, or once on every start. The
// topology itself says, once, which node is down or back and who leads; the details are for debugging.
var routine = []string{
	"failed to heartbeat to",
	"failed to appendEntries to",
	"failed to make requestVote RPC",
	"failed to make requestPreVote RPC",
	"failed to contact",
	"failed to decode incoming command",
	"failed to flush response",
	"failed to get previous log",
	"failed to accept connection",
	"failed to pipeline appendEntries",
	"failed to start pipeline replication",
	"previous log term mis-match",
	"appendEntries rejected",
	"heartbeat timeout reached",
	"Election timeout reached",
	"pre-vote ",
	"rejecting vote request",
	"rejecting pre-vote request",
	"rejecting appendEntries request",
	"no known peers",
	"not part of stable configuration",
	"unable to get address for server",
	"clearing log suffix",
}

// hclogTo sends Raft's warnings and errors to log, what is routine at debug.
func hclogTo(log *slog.Logger) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.Warn, JSONFormat: true, Output: logWriter{log}})
}

type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	var line map[string]any
	if json.Unmarshal(bytes.TrimSpace(p), &line) != nil {
		w.log.Warn("raft", "line", string(p))
		return len(p), nil
	}
	message, level := fmt.Sprint(line["@message"]), slog.LevelWarn
	if line["@level"] == "error" {
		level = slog.LevelError
	}
	for _, start := range routine {
		if strings.HasPrefix(message, start) && !strings.HasPrefix(message, "failed to contact quorum") {
			level = slog.LevelDebug
		}
	}
	if !w.log.Enabled(context.Background(), level) {
		return len(p), nil
	}
	args := make([]any, 0, 2*len(line))
	for k, v := range line {
		if k[0] != '@' {
			args = append(args, k, v)
		}
	}
	w.log.Log(context.Background(), level, "raft: "+message, args...)
	return len(p), nil
}
