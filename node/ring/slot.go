package ring

// Slots is the number of hash slots of a Redis cluster; clients compute them too, so it is fixed by the protocol.
const Slots = 16384

// Groups is the number of slot groups: the unit of log, term and placement. It is fixed when a cluster is created.
// 256 groups of 64 slots keep CLUSTER SLOTS short and a group's full resync at 1/256 of the data.
const Groups = 256

const slotsPerGroup = Slots / Groups

// crcTable holds CRC16/XMODEM (polynomial 0x1021, initial value 0), the checksum of the Redis cluster specification.
var crcTable = func() (t [256]uint16) {
	for i := range t {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		t[i] = crc
	}
	return t
}()

// Slot returns the hash slot of key, 0 to Slots-1. Where key holds a non-empty {hash tag}, only the first tag counts,
// so that keys with one tag share a slot (Redis cluster specification, "Hash tags").
func Slot(key []byte) uint16 {
	return crc16(hashTag(key)) & (Slots - 1)
}

// GroupOf returns the group, 0 to Groups-1, that slot belongs to.
func GroupOf(slot uint16) uint16 { return slot / slotsPerGroup }

// GroupSlots returns the first and the last slot of group.
func GroupSlots(group int) (first, last uint16) {
	return uint16(group * slotsPerGroup), uint16((group+1)*slotsPerGroup - 1)
}

func crc16(b []byte) (crc uint16) {
	for _, c := range b {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^c]
	}
	return crc
}

func hashTag(key []byte) []byte {
	for i, c := range key {
		if c != '{' {
			continue
		}
		for j := i + 1; j < len(key); j++ {
			if key[j] == '}' {
				if j == i+1 {
					return key
				}
				return key[i+1 : j]
			}
		}
		return key
	}
	return key
}
