// Package golden holds transcripts of a real redis-server 7.0.15: requests, and the exact bytes that it replied in
// RESP2 and RESP3. Replay sends them to any server and compares.
//
// A transcript is a text file. cases/NAME.txt holds the requests by hand; transcripts/NAME.respN.txt adds the replies
// and is written by `go run ./node/command/golden/record`. Lines are:
//
//	# a comment
//	mode cluster          the server must (or, "standalone", must not) speak as part of a cluster; "node" is for
//	                      what a node does and the table of commands alone does not
//	reconnect             go on with a new connection
//	> GET "a\x00b"        a request; words in double quotes are Go string literals
//	< $5                  a line of the reply, its CR LF left out, other unprintable bytes as \xNN
//
// A mark between > and the request, as in ">~ttl TTL key", says what may differ:
//
//	ttl        an integer at most a minute's milliseconds away from the recorded one
//	type       anything of the same RESP type
//	unordered  the elements of the outer array, set or map, in any order
//	scan       not a request but SCAN's options: all steps are taken, and the keys compared as a sorted array
package golden

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hypercache/node/command/golden/oracle"
)

//go:embed cases/*.txt
var cases embed.FS

//go:embed transcripts/*.txt
var transcripts embed.FS

// Mode says how the server must be set up for a transcript.
type Mode string

// The modes. Any fits both others.
const (
	Any        Mode = ""
	Standalone Mode = "standalone"
	Cluster    Mode = "cluster"
	// Node is a cluster's node as a whole: what takes more than a table of commands, such as transactions.
	Node Mode = "node"
)

// Mark says in what a reply may differ from the recorded one.
type Mark string

// The marks, as the package's comment describes them.
const (
	Exact     Mark = ""
	TTL       Mark = "ttl"
	Type      Mark = "type"
	Unordered Mark = "unordered"
	Scan      Mark = "scan"
)

// Step is one request with its reply, or, without Args, a new connection.
type Step struct {
	Line  int
	Mark  Mark
	Args  [][]byte
	Reply []byte
}

// Transcript is one file.
type Transcript struct {
	Name  string
	Mode  Mode
	Steps []Step
}

// Cases returns the requests without replies, in order of name.
func Cases() ([]Transcript, error) { return load(cases, "cases") }

// Transcripts returns what was recorded in RESP proto (2 or 3), in order of name.
func Transcripts(proto int) ([]Transcript, error) {
	all, err := load(transcripts, "transcripts")
	suffix := ".resp" + strconv.Itoa(proto)
	all = slices.DeleteFunc(all, func(t Transcript) bool { return !strings.HasSuffix(t.Name, suffix) })
	return all, err
}

func load(fsys fs.FS, dir string) ([]Transcript, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var all []Transcript
	for _, e := range entries {
		text, err := fs.ReadFile(fsys, path.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read transcript: %w", err)
		}
		t, err := Parse(strings.TrimSuffix(e.Name(), ".txt"), string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// Parse reads a transcript or its case.
func Parse(name, text string) (Transcript, error) {
	t := Transcript{Name: name}
	for i, line := range strings.Split(text, "\n") {
		fail := func(err error) (Transcript, error) { return t, fmt.Errorf("%s:%d: %w", name, i+1, err) }
		kind, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || kind[0] == '#':
		case kind == "mode":
			t.Mode = Mode(rest)
		case kind == "reconnect":
			t.Steps = append(t.Steps, Step{Line: i + 1})
		case kind[0] == '>':
			args, err := splitArgs(rest)
			if err != nil {
				return fail(err)
			}
			t.Steps = append(t.Steps, Step{Line: i + 1, Mark: Mark(strings.TrimPrefix(kind[1:], "~")), Args: args})
		case kind == "<" && len(t.Steps) > 0:
			b, err := unescape(rest)
			if err != nil {
				return fail(err)
			}
			last := &t.Steps[len(t.Steps)-1]
			last.Reply = append(append(last.Reply, b...), "\r\n"...)
		default:
			return fail(fmt.Errorf("unknown line %q", line))
		}
	}
	return t, nil
}

// Format is the reverse of Parse, without comments.
func (t *Transcript) Format() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Recorded from redis-server %s; write cases/ and record again instead of editing.\n", oracle.Version)
	if t.Mode != Any {
		fmt.Fprintf(&b, "mode %s\n", t.Mode)
	}
	for _, s := range t.Steps {
		if s.Args == nil {
			b.WriteString("reconnect\n")
			continue
		}
		b.WriteByte('>')
		if s.Mark != Exact {
			b.WriteString("~" + string(s.Mark))
		}
		for _, a := range s.Args {
			b.WriteString(" " + quoteArg(a))
		}
		b.WriteByte('\n')
		for line := range strings.SplitSeq(strings.TrimSuffix(string(s.Reply), "\r\n"), "\r\n") {
			b.WriteString("< " + escape(line) + "\n")
		}
	}
	return b.Bytes()
}

func splitArgs(s string) ([][]byte, error) {
	args := [][]byte{}
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimLeft(s, " ") {
		if s[0] != '"' {
			word, rest, _ := strings.Cut(s, " ")
			args = append(args, []byte(word))
			s = rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return nil, fmt.Errorf("bad quoting in %q: %w", s, err)
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("bad quoting in %q: %w", s, err)
		}
		args = append(args, []byte(word))
		s = s[len(quoted):]
	}
	return args, nil
}

func quoteArg(a []byte) string {
	for _, c := range a {
		if c <= ' ' || c > '~' || c == '"' {
			return `"` + strings.ReplaceAll(escape(string(a)), `"`, `\"`) + `"`
		}
	}
	if len(a) == 0 {
		return `""`
	}
	return string(a)
}

// escape keeps printable ASCII but the backslash.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c <= '~' && c != '\\' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

func unescape(s string) ([]byte, error) {
	var b []byte
	for s != "" {
		if s[0] != '\\' {
			b, s = append(b, s[0]), s[1:]
			continue
		}
		if len(s) < 4 || s[1] != 'x' {
			return nil, fmt.Errorf("bad escape in %q", s)
		}
		n, err := strconv.ParseUint(s[2:4], 16, 8)
		if err != nil {
			return nil, fmt.Errorf("bad escape in %q: %w", s, err)
		}
		b, s = append(b, byte(n)), s[4:]
	}
	return b, nil
}

// Run sends one step and returns its reply.
func Run(c *oracle.Conn, s Step) ([]byte, error) {
	if s.Mark == Scan {
		return runScan(c, s.Args)
	}
	return c.DoBytes(s.Args)
}

// maxScanSteps ends a SCAN that does not end by itself.
const maxScanSteps = 100000

func runScan(c *oracle.Conn, options [][]byte) ([]byte, error) {
	cursor := "0"
	seen := map[string]bool{}
	for range maxScanSteps {
		reply, err := c.DoBytes(append([][]byte{[]byte("SCAN"), []byte(cursor)}, options...))
		if err != nil {
			return nil, err
		}
		if reply[0] != '*' {
			return reply, nil
		}
		parts := Elements(reply)
		cursor = strings.Split(string(parts[0]), "\r\n")[1]
		for _, k := range Elements(parts[1]) {
			seen[string(k)] = true
		}
		if cursor == "0" {
			keys := make([]string, 0, len(seen))
			for k := range seen {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			return []byte("*" + strconv.Itoa(len(keys)) + "\r\n" + strings.Join(keys, "")), nil
		}
	}
	return nil, errors.New("SCAN does not end")
}

// Replay sends every transcript that fits mode, in RESP2 and RESP3, to the server that dial reaches, and reports every
// reply that differs. It empties the server's keyspace.
func Replay(t *testing.T, mode Mode, dial func() (net.Conn, error)) {
	t.Helper()
	for _, proto := range []int{2, 3} {
		all, err := Transcripts(proto)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 0 {
			t.Fatalf("no transcripts of RESP%d", proto)
		}
		for _, tr := range all {
			if tr.Mode != Any && tr.Mode != mode {
				continue
			}
			t.Run(tr.Name, func(t *testing.T) { replay(t, &tr, proto, dial) })
		}
	}
}

func replay(t *testing.T, tr *Transcript, proto int, dial func() (net.Conn, error)) {
	connect := func() *oracle.Conn {
		c, err := dial()
		if err != nil {
			t.Fatalf("dial: %v", err)
		}
		conn := oracle.NewConn(c)
		if _, err := conn.Do("HELLO", strconv.Itoa(proto)); err != nil {
			t.Fatalf("HELLO %d: %v", proto, err)
		}
		return conn
	}
	conn := connect()
	defer func() { conn.Close() }()
	for _, s := range tr.Steps {
		if s.Args == nil {
			conn.Close()
			conn = connect()
			continue
		}
		got, err := Run(conn, s)
		if err != nil {
			t.Fatalf("line %d: %q: %v", s.Line, s.Args, err)
		}
		if err := Compare(s, got); err != nil {
			t.Errorf("line %d: %.300q: %v", s.Line, s.Args, err)
		}
	}
}

// ttlSlack is how much time, in milliseconds, may pass between a request that sets an expiry and one that asks for it.
const ttlSlack = 60_000

// Compare says in what got differs from s.Reply beyond what s.Mark allows, nil if in nothing.
func Compare(s Step, got []byte) error {
	same := false
	switch s.Mark {
	case TTL:
		g, errGot := integer(got)
		w, errWant := integer(s.Reply)
		same = errGot == nil && errWant == nil && g <= w+ttlSlack && g >= w-ttlSlack && (g > 0) == (w > 0)
	case Type:
		same = len(got) > 0 && got[0] == s.Reply[0]
	case Unordered:
		same = bytes.Equal(sorted(got), sorted(s.Reply))
	default:
		same = bytes.Equal(got, s.Reply)
	}
	if !same {
		return fmt.Errorf("got %.400q, redis-server says %.400q", got, s.Reply)
	}
	return nil
}

func integer(b []byte) (int64, error) {
	s := string(bytes.TrimSuffix(b, []byte("\r\n")))
	if s == "" || s[0] != ':' {
		return 0, errors.New("not an integer")
	}
	return strconv.ParseInt(s[1:], 10, 64)
}

// sorted puts the elements of the outer aggregate in order of their bytes.
func sorted(b []byte) []byte {
	elements := Elements(b)
	if elements == nil {
		return b
	}
	step := 1
	if b[0] == '%' {
		step = 2
	}
	var groups [][]byte
	for i := 0; i+step <= len(elements); i += step {
		groups = append(groups, bytes.Join(elements[i:i+step], nil))
	}
	slices.SortFunc(groups, bytes.Compare)
	end := bytes.IndexByte(b, '\n') + 1
	return append(bytes.Clone(b[:end]), bytes.Join(groups, nil)...)
}

// Elements cuts an aggregate reply into the bytes of its elements: keys and values alike for a map. It is nil for
// anything else.
func Elements(b []byte) [][]byte {
	if len(b) == 0 || !strings.ContainsRune("*~%>", rune(b[0])) {
		return nil
	}
	end := bytes.IndexByte(b, '\n') + 1
	rest := b[end:]
	var out [][]byte
	for len(rest) > 0 {
		n := replyLen(rest)
		out = append(out, rest[:n])
		rest = rest[n:]
	}
	return out
}

// replyLen is the length of the complete reply that b begins with.
func replyLen(b []byte) int {
	end := bytes.IndexByte(b, '\n') + 1
	n, err := strconv.Atoi(string(bytes.TrimRight(b[1:end], "\r\n")))
	if err != nil || n < 0 {
		return end
	}
	switch b[0] {
	case '$', '=':
		return end + n + 2
	case '%':
		n *= 2
	case '*', '~', '>':
	default:
		return end
	}
	for range n {
		end += replyLen(b[end:])
	}
	return end
}
