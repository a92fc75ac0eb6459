// Package clock is the time that keys live by: unix time that goes on by the monotonic clock and is corrected by what the
// nodes of a cluster agree on, so that a wall clock that steps expires nothing early.
//
// Guard decides and is pure. Clock reads the machine's clocks, hears the other nodes', asks Guard ten times a second and
// publishes the result for readers on the hot path. It owns no stream: node/peer carries its reports on the heartbeats
// that there are anyway. It knows nothing of keys; whoever expires them is told by Options.Freeze.
//
// # Three clocks
//
//	elapsed  time since some moment, suspension included (CLOCK_BOOTTIME); never steps; says nothing about what time it is
//	wall     what the machine believes the time to be; may step by any amount at any time
//	guarded  elapsed + an offset that Guard owns; what TTLs are counted in
//
// Every node tells the others its wall and its guarded clock. The rules, n the members of the cluster and "agree" being
// within Tolerance of each other:
//
//   - A node is steady once it has compared with a majority: it takes the guarded clock of the steady ones, or, where there
//     are none since all have just started, the median of the walls that a majority agrees on. Before that it expires nothing.
//   - Where the wall clocks of a majority of n agree with the guarded clock, that one is slewed towards their median, by at
//     most SlewRate.
//   - Where they agree on something else, it follows after they stood there for Stand.
//   - Where a majority of guarded clocks is elsewhere, and the walls do not say otherwise, it follows at once: the others
//     count the keys' time like that.
//   - In all other cases it goes on by the elapsed clock.
//   - While another steady node's guarded clock disagrees, and this one's is not that of a majority, it expires nothing.
//
// A lone node is a majority of one: it follows its own wall clock once that has stood for Stand. The intersection of what
// clocks say is Marzullo's idea (K. Marzullo, Maintaining the Time in a Distributed System, 1984), the estimate of another
// node's clock from a round trip Cristian's (F. Cristian, Probabilistic clock synchronization, 1989).
package clock
