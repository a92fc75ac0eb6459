package fabric

import (
	"fmt"
	"regexp"
	"strings"
)

// prefix starts the name of everything that a lab makes outside its directory. Parts are joined with dots, which no part has,
// so the names of one lab are never a prefix of another's.
const prefix = "hypercache-lab."

// labLabel is the Docker label that carries the lab's name, dirLabel the one with the folder of its files.
const (
	labLabel = "hypercache-lab"
	dirLabel = "hypercache-lab-dir"
)

var (
	labPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)
	idPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)
	// linkPattern is what a device link may be: one line of the machine's list of disks holds several.
	linkPattern = regexp.MustCompile(`^/dev/[A-Za-z0-9_.:@+-]+(/[A-Za-z0-9_.:@+-]+)*$`)
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9-]{1,63})*$`)
)

// labPrefix starts every name of one lab.
func labPrefix(lab string) string { return prefix + lab + "." }

// objectName is the name of one thing of a lab: kind is "net", "vm", "host" or "probe".
func (l *Lab) objectName(kind, id string) string { return labPrefix(l.name) + kind + "." + id }

// belongs reports whether a namespace or container name is one of the lab's.
func belongs(lab, name string) bool { return strings.HasPrefix(name, labPrefix(lab)) }

// labDir is the one folder under Options.Dir that holds all files of a lab.
func labDir(lab string) string { return prefix + lab }

func checkID(what, id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("%s %q: want up to 100 letters, digits, '-' and '_', a letter or digit first", what, id)
	}
	return nil
}

func checkLinks(links []string) error {
	for _, link := range links {
		if !linkPattern.MatchString(link) || strings.Contains(link, "..") {
			return fmt.Errorf("device link %q: want a path under /dev without spaces", link)
		}
	}
	return nil
}
