// Package journal makes the writes of one node durable, for all of its slot groups at once.
//
// It owns the data directory: an append-only directory in the format of Redis 7 (a manifest, a base, increments, all
// RESP commands) whose replication positions ride along as annotation lines that Redis skips; the state that decides
// whether this node may vote after a restart; and the terms it has promised. It owns write(2), fsync, group commit,
// recovery and rewriting.
//
// It refuses to guess. Bytes that fail their checksum are never handed out; a directory of another program, of another
// version or in use by another process is left as it is; a failed write or fsync stops the journal for good.
//
// It leaves to others what the commands mean (command), which records to write and when to acknowledge them (replica),
// and where a damaged group gets its data from. DESIGN.md beside this file describes the format and the recovery rules.
package journal
