package command

// maintEndpoints are the forms in which a client may want the addresses of notifications. A node has one address that clients
// reach it by, the one in CLUSTER SLOTS, so that is what they get.
var maintEndpoints = []string{"internal-ip", "internal-fqdn", "external-ip", "external-fqdn", "none"}

// WantsMaintenance says whether the connection asked to be told when slots leave the node, with CLIENT MAINT_NOTIFICATIONS.
func (c *Client) WantsMaintenance() bool { return c.has(clientMaintenance) }

// runClientMaintNotifications is CLIENT MAINT_NOTIFICATIONS <ON [moving-endpoint-type TYPE]|OFF>, which Redis' managed
// services have: recent clients send it when they connect.
func runClientMaintNotifications(c *ConnCtx) {
	switch {
	case option(c.Args[2], "off") && len(c.Args) == 3:
		c.Conn.Client().clear(clientMaintenance)
	case option(c.Args[2], "on") && (len(c.Args) == 3 || len(c.Args) == 5 && option(c.Args[3], "moving-endpoint-type")):
		if len(c.Args) == 5 && !maintEndpoint(c.Args[4]) {
			c.W.Error("ERR Unknown moving-endpoint-type '" + cstring(c.Args[4], 128) + "'; it is internal-ip, internal-fqdn, external-ip, external-fqdn or none")
			return
		}
		if c.W.Proto != 3 {
			c.W.Error("ERR Maintenance notifications are pushed, which needs RESP3: send HELLO 3 first")
			return
		}
		c.Conn.Client().set(clientMaintenance)
	default:
		c.W.Error(errSyntax)
		return
	}
	c.W.OK()
}

func maintEndpoint(arg []byte) bool {
	for _, t := range maintEndpoints {
		if option(arg, t) {
			return true
		}
	}
	return false
}
