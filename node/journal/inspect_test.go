package journal

import (
	"errors"
	"strings"
	"testing"

	"hypercache/node/journal/vfs"
)

// TestInspectSeesWhatTheNextStartWouldAndChangesNothing has the same directory inspected and opened.
func TestInspectSeesWhatTheNextStartWouldAndChangesNothing(t *testing.T) {
	for _, tt := range []struct {
		name, boot string
		policy     Policy
		clean      bool
		torn       bool
	}{
		{"closed", testBoot, EverySec, true, false},
		{"killed", testBoot, EverySec, false, false},
		{"killed within a write", testBoot, EverySec, false, true},
		{"power lost", "boot-2", EverySec, false, false},
		{"power lost with fsync always", "boot-2", Always, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := vfs.NewMem()
			j, _, _ := mustOpen(t, options(m, tt.policy))
			put(t, j, 3, 1, 1, "a", "1")
			put(t, j, 3, 1, 2, "b", "2")
			completeAll(t, j)
			if err := j.SetPromises(map[uint16]uint64{3: 9}); err != nil {
				t.Fatal(err)
			}
			left := m
			if !tt.clean {
				left = m.Clone()
			}
			if err := j.Close(true); err != nil {
				t.Fatal(err)
			}
			if tt.torn {
				f, err := left.Open("data/appendonlydir/" + incrName(1))
				if err != nil {
					t.Fatal(err)
				}
				size, _ := f.Size()
				if _, err := f.WriteAt([]byte("#HC:1 3 "), size); err != nil {
					t.Fatal(err)
				}
			}
			before := content(left)
			left.SetHook(func(op vfs.Op, name string) error { t.Errorf("inspect does %s on %s", op, name); return nil })
			o := options(left, tt.policy)
			o.BootID = tt.boot
			seen := &db{}
			got, err := Inspect(o, seen.apply)
			left.SetHook(nil)
			if err != nil {
				t.Fatal(err)
			}
			if content(left) != before {
				t.Error("inspect changed the directory")
			}
			again, want, opened, err := tryOpen(o)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close(false) //nolint:errcheck
			if got.Voter != want.Voter || got.Positions != want.Positions || got.Truncated != want.Truncated || !seen.equal(opened) {
				t.Errorf("inspect: voter %t, head %v, torn %d; the start: %t, %v, %d", got.Voter, got.Positions[3], got.Truncated, want.Voter, want.Positions[3], want.Truncated)
			}
			if got.Promises != again.Promises() || got.Promises[3] != 9 {
				t.Errorf("promises %d", got.Promises[3])
			}
			for g, complete := range got.Complete {
				if again.incomplete.has(g) == complete {
					t.Fatalf("group %d: complete %t", g, complete)
				}
			}
		})
	}
}

func TestInspectRefusesWhatIsInUseAndSaysWhatIsEmpty(t *testing.T) {
	m := vfs.NewMem()
	if got, err := Inspect(options(m, EverySec), nil); err != nil || !got.Fresh || content(m) != "" {
		t.Errorf("an empty directory: %+v, %v", got.Fresh, err)
	}
	j, _, _ := mustOpen(t, options(m, EverySec))
	if _, err := Inspect(options(m, EverySec), nil); !errors.Is(err, ErrLocked) {
		t.Errorf("a directory in use: %v", err)
	}
	if err := j.Close(true); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove("data/appendonlydir/" + manifestName); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(options(m, EverySec), nil); err != nil { // no record was written yet
		t.Errorf("an interrupted first start: %v", err)
	}
	f, err := m.Create("data/appendonlydir/" + incrName(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("x", 200)), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(options(m, EverySec), nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("records without a manifest: %v", err)
	}
}

func TestADoubtedGroupDoesNotVoteUntilItIsComplete(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, EverySec))
	completeAll(t, j)
	if err := j.Doubt(3, 5); err != nil {
		t.Fatal(err)
	}
	again, rec, _ := mustOpen(t, options(m.Clone(), EverySec))
	if !rec.Voter || len(rec.Damaged) != 2 || rec.Damaged[0] != 3 || rec.Damaged[1] != 5 {
		t.Errorf("voter %t, incomplete %v", rec.Voter, rec.Damaged)
	}
	if err := errors.Join(again.Complete(3, 5), again.Settle()); err != nil {
		t.Fatal(err)
	}
	if err := again.Close(true); err != nil {
		t.Fatal(err)
	}
}
