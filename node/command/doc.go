// Package command holds the Redis command table and the functions behind it.
//
// It owns what a command means: its arity, flags, key positions and documentation (the facts of redis-server 7.0.15),
// how it changes a shard, the exact bytes of its reply, and the deterministic effects by which a replica, a journal or
// a stock redis-server reaches the same state.
//
// It refuses to know where a key lives, who else needs to hear of a write, and what time it is: the caller routes by
// Spec.Scope, holds the group's lock, and passes the clock in Ctx.Now. Nothing here blocks or starts a goroutine.
//
// One file per command group: strings.go, keys.go, expire.go, scan.go, streams*.go (data); conn.go, client.go, introspect.go, info.go,
// config.go, cluster.go (connection and server). A data type that comes later brings a file with its bindings, adds
// them in bindings(), and adds its effects in apply.go.
package command

//go:generate go run ./internal/factgen
