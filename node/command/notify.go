package command

import (
	"errors"
	"strings"
)

// The bits of notify-keyspace-events that are no class of events: messages to __keyspace@0__:key, to
// __keyevent@0__:event, and events of modules, of which there are none.
const (
	NotifyKeyspace Class = ClassNew << (1 + iota)
	NotifyKeyevent
	classModule
)

// classAll is what the letter A stands for.
const classAll = ClassGeneric | ClassString | ClassList | ClassSet | ClassHash | ClassZSet | ClassExpired | ClassEvicted |
	ClassStream | classModule

var notifyLetters = []struct {
	letter byte
	class  Class
}{
	{'g', ClassGeneric}, {'$', ClassString}, {'l', ClassList}, {'s', ClassSet}, {'h', ClassHash}, {'z', ClassZSet},
	{'x', ClassExpired}, {'e', ClassEvicted}, {'t', ClassStream}, {'d', classModule}, {'n', ClassNew},
	{'K', NotifyKeyspace}, {'E', NotifyKeyevent}, {'m', ClassKeyMiss},
}

// ParseNotify reads a value of notify-keyspace-events.
func ParseNotify(s string) (Class, error) {
	var all Class
next:
	for _, c := range []byte(s) {
		if c == 'A' {
			all |= classAll
			continue
		}
		for _, l := range notifyLetters {
			if l.letter == c {
				all |= l.class
				continue next
			}
		}
		return 0, errors.New("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
	}
	return all, nil
}

// formatNotify writes the classes in Redis' order.
func formatNotify(classes Class) string {
	var b strings.Builder
	if classes&classAll == classAll {
		b.WriteByte('A')
		classes &^= classAll
	}
	for _, l := range notifyLetters {
		if classes&l.class != 0 {
			b.WriteByte(l.letter)
		}
	}
	return b.String()
}

func parseNotifyParam(s string) (string, error) {
	classes, err := ParseNotify(s)
	return formatNotify(classes), err
}

// shown is a value as CONFIG GET shows it: beside an A, Redis keeps the letter n to itself.
func shown(name, value string) string {
	if name == "notify-keyspace-events" && strings.HasPrefix(value, "A") {
		return strings.ReplaceAll(value, "n", "")
	}
	return value
}
