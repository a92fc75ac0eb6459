package replica

// Step is the protocol: it changes the state by one event and appends to acts what has to be done, in order. It is
// deterministic and does not allocate unless acts must grow or the configuration changes.
func (s *State) Step(ev *Event, acts []Action) []Action { return acts }
