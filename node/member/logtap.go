package member

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
)

// logTap turns the lines that Serf and memberlist print into slog records, keeps
// the latest ones and copies them to whoever runs `serf monitor`.
type logTap struct {
	log     *slog.Logger
	closing atomic.Bool // "Shutdown without a Leave" is then as intended

	out    sync.Mutex // held while log is written to
	closed bool       // log may be gone: a probe of memberlist's outlives its Shutdown

	mu       sync.Mutex
	recent   []logLine // oldest first, at most recentLines
	monitors map[*monitor]struct{}
}

type logLine struct {
	level slog.Level
	text  string
}

const recentLines = 256

// levelTrace is below slog's lowest; `serf monitor` knows it.
const levelTrace = slog.LevelDebug - 4

func newLogTap(l *slog.Logger) *logTap {
	return &logTap{log: l, monitors: map[*monitor]struct{}{}}
}

func (t *logTap) logger() *log.Logger { return log.New(t, "", 0) }

// Write takes one line, like "[WARN] memberlist: something".
func (t *logTap) Write(p []byte) (int, error) {
	line := logLine{slog.LevelInfo, strings.TrimRight(string(p), "\n")}
	message := line.text
	if name, rest, ok := strings.Cut(strings.TrimPrefix(message, "["), "] "); ok && strings.HasPrefix(message, "[") {
		if level, known := parseLevel(name); known {
			line.level, message = level, rest
		}
	}
	component, rest, ok := strings.Cut(message, ": ")
	if !ok || strings.ContainsRune(component, ' ') {
		component, rest = "serf", message
	}
	level := line.level
	if t.closing.Load() && level < slog.LevelError {
		level = slog.LevelDebug
	}
	if !t.print(level, rest, component) {
		return len(p), nil
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.recent) == recentLines {
		t.recent = append(t.recent[:0], t.recent[1:]...)
	}
	t.recent = append(t.recent, line)
	for m := range t.monitors {
		m.offer(line)
	}
	return len(p), nil
}

func (t *logTap) print(level slog.Level, text, component string) bool {
	t.out.Lock()
	defer t.out.Unlock()
	if !t.closed {
		t.log.Log(context.Background(), level, text, "component", component)
	}
	return !t.closed
}

// close ends what goes to log; a line that is being written is awaited.
func (t *logTap) close() {
	t.out.Lock()
	defer t.out.Unlock()
	t.closed = true
}

func parseLevel(name string) (slog.Level, bool) {
	switch strings.ToUpper(name) {
	case "TRACE":
		return levelTrace, true
	case "DEBUG":
		return slog.LevelDebug, true
	case "INFO":
		return slog.LevelInfo, true
	case "WARN":
		return slog.LevelWarn, true
	case "ERR", "ERROR":
		return slog.LevelError, true
	}
	return 0, false
}

// attach starts to feed m, beginning with the recent lines.
func (t *logTap) attach(m *monitor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range t.recent {
		m.offer(line)
	}
	t.monitors[m] = struct{}{}
}

func (t *logTap) detach(m *monitor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.monitors, m)
}
