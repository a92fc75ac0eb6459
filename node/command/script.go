package command

// scriptCommands run scripts and manage them. Running one needs an interpreter, which is the caller's: Ctx.Eval.
func scriptCommands() []binding {
	return []binding{
		{name: "eval", scope: ScopeKey, run: runEval, keys: countedKeys(2), script: true},
		{name: "evalsha", scope: ScopeKey, run: runEval, keys: countedKeys(2), script: true},
		{name: "eval_ro", scope: ScopeKey, run: runEval, keys: countedKeys(2), script: true},
		{name: "evalsha_ro", scope: ScopeKey, run: runEval, keys: countedKeys(2), script: true},
		{name: "script", scope: ScopeNode},
		{name: "script|debug", scope: ScopeNode},
		{name: "script|exists", scope: ScopeNode},
		{name: "script|flush", scope: ScopeNode},
		{name: "script|help", conn: helpFunc("SCRIPT", scriptHelp)},
		{name: "script|kill", scope: ScopeNode},
		{name: "script|load", scope: ScopeNode},
	}
}

func runEval(c *Ctx) {
	n, ok := parseInt(c.Args[2])
	switch {
	case !ok:
		c.W.Error(errNotInt)
	case n > int64(len(c.Args)-3):
		c.W.Error("ERR Number of keys can't be greater than number of args")
	case n < 0:
		c.W.Error("ERR Number of keys can't be negative")
	case c.Eval == nil:
		c.W.Error("ERR scripts are not possible here")
	default:
		c.Eval(c)
	}
}

var scriptHelp = []string{
	"DEBUG (YES|SYNC|NO)",
	"    Set the debug mode for subsequent scripts executed.",
	"EXISTS <sha1> [<sha1> ...]",
	"    Return information about the existence of the scripts in the script cache.",
	"FLUSH [ASYNC|SYNC]",
	"    Flush the Lua scripts cache. Very dangerous on replicas.",
	"    When called without the optional mode argument, the behavior is determined by the",
	"    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
	"    * ASYNC: Asynchronously flush the scripts cache.",
	"    * SYNC: Synchronously flush the scripts cache.",
	"KILL",
	"    Kill the currently executing Lua script.",
	"LOAD <script>",
	"    Load a script into the scripts cache without executing it.",
}
