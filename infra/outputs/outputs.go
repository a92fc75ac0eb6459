// Package outputs makes the stack outputs that scripts and people build on, the same for every cloud: nodes, respEndpoints,
// httpEndpoints, connect and password. Names and types are a contract; scripts/health-check.sh reads them.
//
// password is what clients give as the user default: a Pulumi secret, or the empty text where they need none. It is in no other
// output: connect is a command line, which is shown, and redis-cli takes a password from REDISCLI_AUTH.
package outputs

import (
	"fmt"
	"strconv"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/plan"
)

// Of returns the outputs of a planned cluster. public holds the nodes' public addresses in their order; nil where nodes have
// none, and endpoints are private then. password is nil where clients need none.
func Of(p plan.Plan, public []pulumi.StringInput, password pulumi.StringInput) pulumi.Map {
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
	secret := pulumi.Input(pulumi.String(""))
	if password != nil {
		secret = pulumi.ToSecret(password)
	}
	return pulumi.Map{"nodes": nodes, "respEndpoints": resp, "httpEndpoints": http, "connect": connect, "password": secret}
}

func endpoint(address pulumi.StringInput, port int) pulumi.StringInput {
	if plain, ok := address.(pulumi.String); ok {
		return pulumi.String(string(plain) + ":" + strconv.Itoa(port))
	}
	return address.ToStringOutput().ApplyT(func(a string) string { return fmt.Sprintf("%s:%d", a, port) }).(pulumi.StringOutput)
}
