package sim

import "hypercache/node/replica"

// knockout is a rule switched off.
type knockout struct {
	name string
	opts Options
}

// knockouts lists the rules of the protocol that can be switched off.
var knockouts = []knockout{
	{"quorum-of-one", Options{Rules: replica.Rules{QuorumOfOne: true}}},
	{"no-term-check", Options{Rules: replica.Rules{NoTermCheck: true}}},
	{"ack-before-journal", Options{Rules: replica.Rules{AckBeforeJournal: true}}},
	{"commit-old-term", Options{Rules: replica.Rules{CommitOldTerm: true}}},
	{"no-promise-persist", Options{Rules: replica.Rules{NoPromisePersist: true}}},
	{"voter-with-short-log", Options{Rules: replica.Rules{VoterWithShortLog: true}}},
	{"no-joint-majority", Options{Rules: replica.Rules{NoJointMajority: true}}},
	{"no-joint-config", Options{NoJoint: true}},
	{"serve-before-noop", Options{Rules: replica.Rules{ServeBeforeNoop: true}}},
	{"fence-minority", Options{FenceMinority: true}},
	{"non-contiguous", Options{Rules: replica.Rules{NonContiguous: true}}},
	{"no-incarnation-check", Options{Rules: replica.Rules{NoIncarnationCheck: true}}},
	{"lead-after-restart", Options{Rules: replica.Rules{LeadAfterRestart: true}}},
}
