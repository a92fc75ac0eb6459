package rdb

import "hash/crc64"

// jones is the table of Redis' checksum: the Jones polynomial with its bits reversed.
var jones = crc64.MakeTable(0x95ac9329ac4bc9b5)

// checksum continues Redis' CRC64, which begins with 0 and inverts nothing; the standard library inverts at both ends.
func checksum(crc uint64, b []byte) uint64 { return ^crc64.Update(^crc, jones, b) }
