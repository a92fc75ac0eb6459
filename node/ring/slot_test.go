package ring

import (
	"testing"
)

func TestSlotAgreesWithTheClusterSpecification(t *testing.T) {
	if got := Slot([]byte("123456789")); got != 0x31C3 {
		t.Errorf("Slot(123456789) = %#x, want 0x31c3", got)
	}
	for _, c := range []struct{ key, hashed string }{
		{"{user1000}.following", "user1000"},
		{"{user1000}.followers", "user1000"},
		{"foo{}{bar}", "foo{}{bar}"},
		{"foo{{bar}}zap", "{bar"},
		{"foo{bar}{zap}", "bar"},
		{"foo{bar", "foo{bar"},
		{"}foo{", "}foo{"},
		{"", ""},
	} {
		if got := string(hashTag([]byte(c.key))); got != c.hashed {
			t.Errorf("%q hashes %q, want %q", c.key, got, c.hashed)
		}
		if got, want := Slot([]byte(c.key)), crc16([]byte(c.hashed))%Slots; got != want {
			t.Errorf("Slot(%q) = %d, want %d", c.key, got, want)
		}
	}
}

func TestGroupsCoverAllSlotsOnce(t *testing.T) {
	next := 0
	for g := range Groups {
		first, last := GroupSlots(g)
		if int(first) != next || GroupOf(first) != uint16(g) || GroupOf(last) != uint16(g) {
			t.Fatalf("group %d is %d-%d, next free slot %d", g, first, last, next)
		}
		next = int(last) + 1
	}
	if next != Slots {
		t.Fatalf("groups end at %d", next)
	}
}

func FuzzSlot(f *testing.F) {
	f.Add([]byte("a{b}c"))
	f.Fuzz(func(t *testing.T, key []byte) {
		if s := Slot(key); s >= Slots || GroupOf(s) >= Groups {
			t.Fatal(s)
		}
	})
}
