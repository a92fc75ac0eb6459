package local

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

// Types of the provider's resources. They and the children's names are part of every URN: changing one replaces clusters.
const (
	componentType = "hypercache:local:Cluster"
	siteType      = "hypercache:index:Site"
	nodeType      = "hypercache:index:Node"
	rosterType    = "hypercache:index:Roster"
)

// site, node and roster receive what the program reads back of the provider's resources.
type (
	site struct {
		pulumi.CustomResourceState
		GossipKey     pulumi.StringOutput `pulumi:"gossipKey"`
		ClusterSecret pulumi.StringOutput `pulumi:"clusterSecret"`
		Password      pulumi.StringOutput `pulumi:"password"`
	}
	node struct {
		pulumi.CustomResourceState
	}
	roster struct {
		pulumi.CustomResourceState
	}
)
