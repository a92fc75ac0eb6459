package golden

import (
	"slices"
	"strings"
	"testing"
)

func TestTranscriptsSurviveFormatAndParse(t *testing.T) {
	for _, proto := range []int{2, 3} {
		all, err := Transcripts(proto)
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range all {
			again, err := Parse(tr.Name, string(tr.Format()))
			if err != nil {
				t.Fatal(err)
			}
			same := slices.EqualFunc(tr.Steps, again.Steps, func(a, b Step) bool {
				return a.Mark == b.Mark && string(a.Reply) == string(b.Reply) &&
					slices.EqualFunc(a.Args, b.Args, func(x, y []byte) bool { return string(x) == string(y) })
			})
			if !same || again.Mode != tr.Mode {
				t.Errorf("%s changes when it is written and read again", tr.Name)
			}
		}
	}
}

// TestTranscriptsHoldTheirCases fails when cases changed and nobody recorded again.
func TestTranscriptsHoldTheirCases(t *testing.T) {
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	for _, proto := range []int{2, 3} {
		recorded, err := Transcripts(proto)
		if err != nil {
			t.Fatal(err)
		}
		if len(recorded) != len(cases) {
			t.Errorf("RESP%d: %d transcripts of %d cases", proto, len(recorded), len(cases))
		}
		for i, c := range cases[:min(len(cases), len(recorded))] {
			requests := func(steps []Step) (out []string) {
				for _, s := range steps {
					out = append(out, string(s.Mark))
					for _, a := range s.Args {
						out = append(out, string(a))
					}
				}
				return out
			}
			if !slices.Equal(requests(c.Steps), requests(recorded[i].Steps)) {
				t.Errorf("%s is not what %s.txt asks; record again", recorded[i].Name, c.Name)
			}
		}
	}
}

func TestCompare(t *testing.T) {
	tests := []struct {
		mark      Mark
		want, got string
		same      bool
	}{
		{Exact, "+OK\r\n", "+OK\r\n", true},
		{Exact, "+OK\r\n", "$2\r\nOK\r\n", false},
		{TTL, ":100\r\n", ":99\r\n", true},
		{TTL, ":100000\r\n", ":39999\r\n", false},
		{TTL, ":100\r\n", ":-1\r\n", false},
		{TTL, ":100\r\n", "-ERR\r\n", false},
		{Type, ":1\r\n", ":2\r\n", true},
		{Type, ":1\r\n", "-ERR x\r\n", false},
		{Unordered, "*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*2\r\n$1\r\nb\r\n$1\r\na\r\n", true},
		{Unordered, "*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*2\r\n$1\r\nb\r\n$1\r\nb\r\n", false},
		{Unordered, "%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n", "%2\r\n+b\r\n:2\r\n+a\r\n:1\r\n", true},
		{Unordered, "%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n", "%2\r\n+b\r\n:1\r\n+a\r\n:2\r\n", false},
		{Unordered, "*0\r\n", "~0\r\n", false},
		{Unordered, "$1\r\na\r\n", "$1\r\nb\r\n", false},
	}
	for _, tt := range tests {
		if err := Compare(Step{Mark: tt.mark, Reply: []byte(tt.want)}, []byte(tt.got)); (err == nil) != tt.same {
			t.Errorf("mark %q, %q, %q: %v", tt.mark, tt.want, tt.got, err)
		}
	}
}

func TestParseRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{"nonsense", "< +OK", "> GET \"unclosed", "> GET x\n< \\y", "> GET x\n< \\x4"} {
		if _, err := Parse("t", text); err == nil || !strings.HasPrefix(err.Error(), "t:") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
