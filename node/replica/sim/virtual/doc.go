// Package virtual is what the simulators of a group and of whole clusters stand on: time that passes only from one event to the
// next, chance that comes from a seed, the first violation and its trace, and what clients know of lists that they append to.
//
// It knows nothing of nodes, networks or replicas: the simulators model those. Everything is used from one goroutine.
package virtual
