package cloudinit

import "strings"

// variable is one line of machine.env.
type variable struct{ name, value string }

// variables are what the scripts know of the machine, in the order of the file.
func variables(m Machine) []variable {
	signed := "no"
	if m.Binary.Signed {
		signed = "yes"
	}
	out := []variable{
		{"HC_CLOUD", m.Cloud}, {"HC_REGION", m.Region},
		{"HC_DATA_DEVICES", strings.Join(m.DataDevices, " ")},
		{"HC_BINARY_URL", m.Binary.URL}, {"HC_BINARY_SHA256", m.Binary.SHA256}, {"HC_BINARY_SIGNED", signed},
		{"HC_GOSSIP_KEY", m.Secrets.GossipKey}, {"HC_CLUSTER_SECRET", m.Secrets.ClusterSecret},
		{"HC_PASSWORD", m.Secrets.Password},
	}
	if m.Metric != nil {
		out = append(out, variable{"HC_METRIC", DiskMetric}, variable{"HC_METRIC_NAMESPACE", m.Metric.Namespace},
			variable{"HC_METRIC_NODE", m.Metric.Node}, variable{"HC_METRIC_RESOURCE", m.Metric.ResourceID})
	}
	return out
}

// environment is machine.env. Single quotes mean the same to systemd and to a shell, as long as there is none within;
// check sees to that.
func environment(m Machine) string {
	var b strings.Builder
	b.WriteString("# What the infrastructure decided about this machine, for hypercache-setup.service. No secrets: only where they are.\n")
	for _, v := range variables(m) {
		b.WriteString(v.name + "='" + v.value + "'\n")
	}
	return b.String()
}
