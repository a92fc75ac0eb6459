package command

import (
	"strings"
	"testing"
)

func TestMaintenanceNotificationsNeedRESP3(t *testing.T) {
	h := newHarness(t, true)
	c := h.open(1, "a", "b")
	for _, step := range []struct {
		line, reply string
		wants       bool
	}{
		{"CLIENT MAINT_NOTIFICATIONS ON", "-ERR Maintenance notifications are pushed", false},
		{"HELLO 3", "%7", false},
		{"CLIENT MAINT_NOTIFICATIONS ON MOVING-ENDPOINT-TYPE nowhere", "-ERR Unknown moving-endpoint-type 'nowhere'", false},
		{"CLIENT MAINT_NOTIFICATIONS ON MOVING-ENDPOINT-TYPE", "-ERR syntax error", false},
		{"CLIENT MAINT_NOTIFICATIONS perhaps", "-ERR syntax error", false},
		{"CLIENT MAINT_NOTIFICATIONS", "-ERR wrong number of arguments", false},
		{"CLIENT maint_notifications on moving-endpoint-type internal-IP", "+OK", true},
		{"CLIENT MAINT_NOTIFICATIONS OFF", "+OK", false},
		{"CLIENT MAINT_NOTIFICATIONS ON", "+OK", true},
		{"HELLO 3", "%7", true},
		{"HELLO 2", "*14", false},
		{"HELLO 3", "%7", false},
		{"CLIENT MAINT_NOTIFICATIONS ON", "+OK", true},
		{"RESET", "+RESET", false},
	} {
		got := string(h.exec(c, bytesOf(strings.Fields(step.line))))
		if !strings.HasPrefix(got, step.reply) || c.client.WantsMaintenance() != step.wants {
			t.Errorf("%s: %q and wants %v, want %q and %v", step.line, got, c.client.WantsMaintenance(), step.reply, step.wants)
		}
	}
}
