// Package config is the one description of how a HyperCache node is set up.
//
// It owns the keys, their defaults, where they come from and which
// combinations are possible. It refuses everything it does not understand, and
// reports all of it at once: a person who mistyped three keys hears about three
// keys. It knows nothing of serf, raft or redcon, so that provisioning code can
// import it to write the files that nodes read.
//
// Sources are laid over each other, the last wins: built-in defaults, the YAML
// file, the environment, command-line flags. Every key can be given in each of
// them: network.resp_port is HYPERCACHE_NETWORK_RESP_PORT in the environment.
//
// Config is a plain value. Load returns one that passed Validate and whose
// derived fields (bind and advertise addresses) are filled in; the functions
// with effects beyond reading the file (Identify, Cluster.Secret) are separate,
// so that checking a file never touches the machine.
package config
