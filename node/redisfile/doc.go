// Package redisfile opens what a stock redis-server left on disk, and tells which keys it holds in the end: a dump.rdb, a
// single append-only file (with or without an RDB file at its front), or the append-only directory of Redis 7 with its
// manifest, written by Redis 2.8 to 7.2.
//
// It owns the reading of append-only files: their commands are run on a store in memory, in their order, and what is there
// at the end counts, so that commands over several keys need no cluster that runs them. An RDB file is handed out key by
// key and never held.
//
// It refuses what it does not understand as a whole, with file and offset: a file that ends too early or fails its checksum,
// a command that it does not know or that failed, times that count from a present that has passed, data of modules, and
// HyperCache's own directories. It never writes. Which keys to take and where to put them is the caller's.
package redisfile
