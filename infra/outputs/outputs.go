// Package outputs makes the stack outputs that scripts and people build on, the same for every cloud: nodes, respEndpoints,
// httpEndpoints and connect. Names and types are a contract; scripts/health-check.sh reads them.
package outputs

import (
	"fmt"
	"strconv"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/plan"
)

// Of returns the outputs of a planned cluster. public holds the nodes' public addresses in their order; nil where nodes have
// none, and endpoints are private then.
func Of(p plan.Plan, public []pulumi.StringInput) pulumi.Map {
	var nodes pulumi.MapArray
	var resp, http pulumi.StringArray
	for i, n := range p.Nodes {
		var address, outside pulumi.StringInput = pulumi.String(n.Address), pulumi.String("")
		if public != nil {
			address, outside = public[i], public[i]
		}
		nodes = append(nodes, pulumi.Map{
			"name": pulumi.String(n.Name), "zone": pulumi.String(n.Zone),
			"privateIp": pulumi.String(n.Address), "publicIp": outside,
			"respPort": pulumi.Int(n.RESP), "httpPort": pulumi.Int(n.HTTP),
			"gossipPort": pulumi.Int(n.Gossip), "rpcPort": pulumi.Int(n.RPC),
		})
		resp = append(resp, endpoint(address, n.RESP))
		http = append(http, endpoint(address, n.HTTP))
	}
	connect := pulumi.StringInput(pulumi.String(p.Connect()))
	if public != nil {
		connect = pulumi.Sprintf("redis-cli -h %s -p %d", public[0], p.Nodes[0].RESP)
	}
	return pulumi.Map{"nodes": nodes, "respEndpoints": resp, "httpEndpoints": http, "connect": connect}
}

func endpoint(address pulumi.StringInput, port int) pulumi.StringInput {
	if plain, ok := address.(pulumi.String); ok {
		return pulumi.String(string(plain) + ":" + strconv.Itoa(port))
	}
	return address.ToStringOutput().ApplyT(func(a string) string { return fmt.Sprintf("%s:%d", a, port) }).(pulumi.StringOutput)
}
