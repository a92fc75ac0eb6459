package sim

import (
	"cmp"
	"strings"

	"hypercache/node/replica"
)

// knockout is a rule that can be switched off, with faults among which its absence soon shows.
type knockout struct {
	name string
	opts Options
	mix  string // names of faults; none: all
}

var knockouts = []knockout{
	{name: "quorum-of-one", opts: Options{Rules: replica.Rules{QuorumOfOne: true}}, mix: "kill isolate powerLoss"},
	{name: "no-term-check", opts: Options{Rules: replica.Rules{NoTermCheck: true}}, mix: "isolate pauseLeader oneWay"},
	{name: "ack-before-journal", opts: Options{Rules: replica.Rules{AckBeforeJournal: true}}, mix: "killMidWrite slowDisk killMany isolate"},
	{name: "commit-old-term", opts: Options{Rules: replica.Rules{CommitOldTerm: true}, Window: 3, Spacious: true}, mix: "figureEight"},
	{name: "voter-with-short-log", opts: Options{Rules: replica.Rules{VoterWithShortLog: true}}, mix: "shortLog powerLoss wipe isolate"},
	{name: "no-joint-majority", opts: Options{Rules: replica.Rules{NoJointMajority: true}}, mix: "drain join isolate kill partition"},
	{name: "serve-before-noop", opts: Options{Rules: replica.Rules{ServeBeforeNoop: true}, Wide: true}, mix: "unsettled"},
	{name: "non-contiguous", opts: Options{Rules: replica.Rules{NonContiguous: true}}, mix: "kill breakStream isolate restart"},
	{name: "lead-after-restart", opts: Options{Rules: replica.Rules{LeadAfterRestart: true}}, mix: "forgotten kill restart leader"},
	{name: "tail-mends-holes", opts: Options{Rules: replica.Rules{TailMendsHoles: true}}, mix: "rot kill restart"},
	{name: "follow-unpromised", opts: Options{Rules: replica.Rules{FollowUnpromised: true}}, mix: "forgotten"},
	{name: "vote-after-power-loss", opts: Options{VoteAfterPowerLoss: true}, mix: "shortLog powerLoss isolate"},
	{name: "forget-promises", opts: Options{ForgetPromises: true}, mix: "forgotten"},
	{name: "ack-unwritten", opts: Options{AckUnwritten: true}, mix: "kill killMany shortLog"},
	{name: "trust-checksums", opts: Options{TrustChecksums: true}, mix: "rot kill"},
	{name: "wiped-votes", opts: Options{WipedVotes: true}, mix: "wipe shortLog kill"},
	{name: "elect-minority", opts: Options{ElectMinority: true}, mix: "isolate partition shortLog"},
	{name: "swap-at-once", opts: Options{SwapAtOnce: true}, mix: "swap isolate kill partition"},
	{name: "ignore-lag", opts: Options{IgnoreLag: true, NoLoss: true}, mix: "drain starve slowDisk"},
	{name: "forgive-sync", opts: Options{ForgiveSync: true, Always: true}, mix: "lostSync"},
	{name: "forget-failure", opts: Options{ForgetFailure: true, Always: true}, mix: "lostSync"},
	{name: "ack-full", opts: Options{AckFull: true}, mix: "fullDisk killMany"},
	{name: "clock-stops", opts: Options{ClockStops: true}, mix: "pauseLeader"},
}

// options are those that look for the rule.
func (k knockout) options() Options {
	o := k.opts
	o.Mix, o.Small, o.ClientsOnly = strings.Fields(cmp.Or(*mixFlag, k.mix)), true, *clientsFlag
	return o
}

// clean are the same without the rule's absence.
func (k knockout) clean() Options {
	o := k.options()
	return Options{
		Mix: o.Mix, Small: true, ClientsOnly: o.ClientsOnly, NoLoss: o.NoLoss, Spacious: o.spacious(), Always: o.Always, Wide: o.Wide,
		Window: o.Window,
	}
}
