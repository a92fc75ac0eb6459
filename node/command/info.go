package command

import (
	"slices"
	"strings"
)

func infoCommands() []binding {
	return []binding{{name: "info", conn: runInfo}}
}

// infoSections are INFO's sections in their order. Those that are not in the default are long.
var infoSections = []struct {
	name, title string
	byDefault   bool
}{
	{"server", "Server", true},
	{"clients", "Clients", true},
	{"memory", "Memory", true},
	{"persistence", "Persistence", true},
	{"stats", "Stats", true},
	{"replication", "Replication", true},
	{"cpu", "CPU", true},
	{"modules", "Modules", true},
	{"commandstats", "Commandstats", false},
	{"errorstats", "Errorstats", true},
	{"latencystats", "Latencystats", false},
	{"cluster", "Cluster", true},
	{"keyspace", "Keyspace", true},
}

func runInfo(c *ConnCtx) {
	wanted := make([]string, 0, len(c.Args))
	all, byDefault := false, len(c.Args) == 1
	for _, arg := range c.Args[1:] {
		switch name := strings.ToLower(string(arg)); name {
		case "all", "everything":
			all = true
		case "default":
			byDefault = true
		default:
			wanted = append(wanted, name)
		}
	}
	var text []byte
	for _, s := range infoSections {
		if !all && !(byDefault && s.byDefault) && !slices.Contains(wanted, s.name) {
			continue
		}
		if len(text) > 0 {
			text = append(text, "\r\n"...)
		}
		text = append(text, "# "+s.title+"\r\n"...)
		c.Server.Info(s.name, func(field, value string) {
			text = append(append(append(append(text, field...), ':'), value...), "\r\n"...)
		})
	}
	c.W.Verbatim("txt", text)
}
