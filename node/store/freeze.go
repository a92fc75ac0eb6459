package store

// Freeze says whether entries are kept although their time is over, because nobody can be sure what time it is: Find finds
// them, Expired reports none. What counts is the moment of the question, so keys that expired meanwhile go once it ends. It
// is safe for concurrent use.
func (db *DB) Freeze(on bool) { db.frozen.Store(on) }
