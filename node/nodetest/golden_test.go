package nodetest

import (
	"testing"

	"hypercache/node/command/golden"
)

func TestLoneNodeAnswersAsRedisDoes(t *testing.T) {
	c := Start(t, 1, nil)
	golden.Replay(t, golden.Cluster, c.Nodes()[0].Dial)
	golden.Replay(t, golden.Node, c.Nodes()[0].Dial)
}

func TestEachNodeOfThreeAnswersAsRedisDoes(t *testing.T) {
	c := Start(t, 3, nil)
	for _, n := range c.Nodes() {
		t.Run(n.ID, func(t *testing.T) {
			golden.Replay(t, golden.Cluster, n.Dial)
			golden.Replay(t, golden.Node, n.Dial)
		})
	}
}
