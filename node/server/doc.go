// Package server is where a node's parts meet: it opens them in order, connects them, and closes them in the reverse
// order.
//
// It owns the process' listeners, the journal's recovery, and the translation between packages that do not know each
// other: the committed topology becomes the replicas' configuration and the cache's routes, gossip becomes the list of
// peers. It decides nothing about data.
package server
