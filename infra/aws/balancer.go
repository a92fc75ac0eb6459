package aws

import (
	"strconv"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/lb"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/plan"
)

// longestBalancer is the longest name that AWS takes for a balancer and what belongs to it.
const longestBalancer = 32

// balancer is the internal load balancer; the zero value is none.
type balancer struct {
	name    pulumi.StringInput // in DNS
	targets []target
}

// target is a port that the balancer hands on to nodes.
type target struct {
	name  string
	port  int
	group *lb.TargetGroup
}

// balancer registers one address in each zone before RESP and HTTP of all nodes that are ready, if the stack wants it.
func (b *builder) balancer(net network) (balancer, error) {
	if len(b.Plan.Network.Frontends) == 0 {
		return balancer{}, nil
	}
	var places lb.LoadBalancerSubnetMappingArray
	for _, f := range b.Plan.Network.Frontends {
		places = append(places, lb.LoadBalancerSubnetMappingArgs{
			SubnetId: net.subnets[f.Subnet], PrivateIpv4Address: pulumi.String(f.Address.String()),
		})
	}
	front, err := lb.NewLoadBalancer(b.ctx, "balancer", &lb.LoadBalancerArgs{
		Name: pulumi.String(b.short("balancer", longestBalancer)), LoadBalancerType: pulumi.String("network"), Internal: pulumi.Bool(true),
		SubnetMappings: places, Tags: b.tags("balancer"),
		// A zone whose nodes are all away is still served, by the nodes of the others.
		EnableCrossZoneLoadBalancing: pulumi.Bool(true),
	}, b.child(), pulumi.DeleteBeforeReplace(true)) // another one, for other zones, has its name and its addresses
	if err != nil {
		return balancer{}, err
	}
	out := balancer{name: front.DnsName}
	for _, t := range []target{{name: "resp", port: plan.RESPPort}, {name: "http", port: plan.HTTPPort}} {
		if t.group, err = b.target(net, front, t); err != nil {
			return balancer{}, err
		}
		out.targets = append(out.targets, t)
	}
	return out, nil
}

// idleSeconds is for how long a client may be silent.
const idleSeconds = 1800

// target registers the group of nodes behind a port. Both ports ask the same: a node that is not ready serves neither.
func (b *builder) target(net network, front *lb.LoadBalancer, t target) (*lb.TargetGroup, error) {
	group, err := lb.NewTargetGroup(b.ctx, "balancer-"+t.name, &lb.TargetGroupArgs{
		Name: pulumi.String(b.short(t.name, longestBalancer)), VpcId: net.vpc.ToStringOutput(), TargetType: pulumi.String("instance"),
		Protocol: pulumi.String("TCP"), Port: pulumi.Int(t.port), Tags: b.tags(t.name),
		HealthCheck: lb.TargetGroupHealthCheckArgs{
			Protocol: pulumi.String("HTTP"), Path: pulumi.String("/ready"), Port: pulumi.String(strconv.Itoa(plan.HTTPPort)),
			Interval: pulumi.Int(5), Timeout: pulumi.Int(3), HealthyThreshold: pulumi.Int(2), UnhealthyThreshold: pulumi.Int(2),
		},
		// A client of a node that goes is told so, and does not wait for an answer from a connection that is gone.
		DeregistrationDelay: pulumi.Int(10), ConnectionTermination: pulumi.Bool(true),
	}, b.child())
	if err != nil {
		return nil, err
	}
	_, err = lb.NewListener(b.ctx, "balancer-"+t.name+"-listener", &lb.ListenerArgs{
		LoadBalancerArn: front.Arn, Protocol: pulumi.String("TCP"), Port: pulumi.Int(t.port), Tags: b.tags(t.name + "-listener"),
		TcpIdleTimeoutSeconds: pulumi.Int(idleSeconds),
		DefaultActions: lb.ListenerDefaultActionArray{lb.ListenerDefaultActionArgs{
			Type: pulumi.String("forward"), TargetGroupArn: group.Arn,
		}},
	}, b.child())
	return group, err
}
