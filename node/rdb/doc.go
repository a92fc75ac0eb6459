// Package rdb reads and writes Redis' RDB format: whole files, and single values as DUMP hands them out.
//
// It owns the bytes: opcodes, lengths, LZF, ziplists, listpacks, intsets, quicklists, streams, checksums. It reads versions
// 6 to 11 (Redis 2.8 to 7.2) and writes version 10 (Redis 7.0), with Redis' default limits of compact encodings.
//
// It refuses versions above 11, values and data of modules, zipmaps (Redis before 2.6) and everything that is not as Redis
// writes it: each length is checked against what holds it, compact containers are checked element by element, NaN is no
// score. It never allocates by a length that a file claims: memory grows as bytes arrive. Whether fields and members repeat is left to the
// caller, who keeps them anyway, and so is what to do with keys that have expired.
//
// A Reader hands what it finds to a Sink piece by piece, in a neutral form that depends on no encoding; Collect gathers one
// value. Read and written again, a value is the same, its encoding may not be.
package rdb
