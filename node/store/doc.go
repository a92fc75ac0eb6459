// Package store is the keyspace of one node: 256 shards, one per slot group, each used under its group's lock.
package store
