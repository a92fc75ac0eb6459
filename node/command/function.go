package command

// functionCommands manage libraries of functions and call them. The libraries are the caller's, and so is the interpreter:
// Ctx.Eval.
func functionCommands() []binding {
	return []binding{
		{name: "fcall", scope: ScopeKey, run: runFCall, keys: countedKeys(2), script: true},
		{name: "fcall_ro", scope: ScopeKey, run: runFCall, keys: countedKeys(2), script: true},
		{name: "function", scope: ScopeNode},
		{name: "function|delete", scope: ScopeNode},
		{name: "function|dump", scope: ScopeNode},
		{name: "function|flush", scope: ScopeNode},
		{name: "function|help", conn: helpFunc("FUNCTION", functionHelp)},
		{name: "function|kill", scope: ScopeNode},
		{name: "function|list", scope: ScopeNode},
		{name: "function|load", scope: ScopeNode},
		{name: "function|restore", scope: ScopeNode},
		{name: "function|stats", scope: ScopeNode},
	}
}

// runFCall leaves the number of keys to Eval: that there is such a function is asked first.
func runFCall(c *Ctx) {
	if c.Eval == nil {
		c.W.Error("ERR functions are not possible here")
		return
	}
	c.Eval(c)
}

// FunctionKeys is how many keys FCALL's arguments say that there are. problem is Redis' error, "" if all is well.
func FunctionKeys(args [][]byte) (n int, problem string) {
	keys, ok := parseInt(args[2])
	switch {
	case !ok:
		return 0, "ERR Bad number of keys provided"
	case keys > int64(len(args)-3):
		return 0, "ERR Number of keys can't be greater than number of args"
	case keys < 0:
		return 0, "ERR Number of keys can't be negative"
	}
	return int(keys), ""
}

// FunctionUsage is Redis' answer to arguments that a subcommand of FUNCTION has not.
func FunctionUsage(sub []byte) string {
	return "ERR unknown subcommand or wrong number of arguments for '" + cstring(sub, 128) + "'. Try FUNCTION HELP."
}

var functionHelp = []string{
	"LOAD [REPLACE] <FUNCTION CODE>",
	"    Create a new library with the given library name and code.",
	"DELETE <LIBRARY NAME>",
	"    Delete the given library.",
	"LIST [LIBRARYNAME PATTERN] [WITHCODE]",
	"    Return general information on all the libraries:",
	"    * Library name",
	"    * The engine used to run the Library",
	"    * Library description",
	"    * Functions list",
	"    * Library code (if WITHCODE is given)",
	"    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
	"STATS",
	"    Return information about the current function running:",
	"    * Function name",
	"    * Command used to run the function",
	"    * Duration in MS that the function is running",
	"    If no function is running, return nil",
	"    In addition, returns a list of available engines.",
	"KILL",
	"    Kill the current running function.",
	"FLUSH [ASYNC|SYNC]",
	"    Delete all the libraries.",
	"    When called without the optional mode argument, the behavior is determined by the",
	"    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
	"    * ASYNC: Asynchronously flush the libraries.",
	"    * SYNC: Synchronously flush the libraries.",
	"DUMP",
	"    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
	"RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
	"    Restore the libraries represented by the given payload, it is possible to give a restore policy to",
	"    control how to handle existing libraries (default APPEND):",
	"    * FLUSH: delete all existing libraries.",
	"    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
	"    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old",
	"      libraries with the new libraries (notice that even on this option there is a chance of failure",
	"      in case of functions name collision with another library).",
}
