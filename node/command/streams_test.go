package command

import (
	"fmt"

	"hypercache/node/store"
)

// streamContents is a stream as text, without the times at which consumers were seen.
func streamContents(st store.Entries) (out []string) {
	out = append(out, fmt.Sprint(st.Len(), st.State(), st.First(), st.Top()))
	st.Each(store.StreamID{}, store.MaxStreamID, func(e *store.StreamEntry) bool {
		line := e.ID.String()
		e.Each(func(field, value []byte) { line += fmt.Sprintf(" %q %q", field, value) })
		out = append(out, line)
		return true
	})
	for _, g := range st.Groups() {
		out = append(out, fmt.Sprintf("group %q %v %d", g.Name(), g.Last, g.Read))
		eachDelivery(g, nil, store.StreamID{}, store.MaxStreamID, func(d store.Delivery) bool {
			out = append(out, fmt.Sprintf("%v %q %d %d", d.ID, d.Consumer.Name(), d.Time, d.Count))
			return true
		})
		for _, c := range g.Consumers() {
			out = append(out, fmt.Sprintf("consumer %q %d", c.Name(), c.Pending()))
		}
	}
	return out
}
