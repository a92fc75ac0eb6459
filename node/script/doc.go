// Package script runs Lua scripts and functions as redis-server 7.0 does: EVAL's language, its libraries and its error texts, on
// github.com/yuin/gopher-lua.
//
// It owns the scripts' sandbox, the conversion between RESP and Lua, and the cache of compiled scripts. It refuses to know
// what a command is and where keys live: redis.call goes to a Host, which answers in RESP. A Lua state is used for one
// script after another, since making one takes longer than most scripts; nothing in it can be changed, and one whose script
// failed, ran long or changed something all the same is thrown away.
//
// # What is bounded
//
// Instructions are counted by the state's context: the interpreter asks it before each, which costs about 10 ns and is how
// the Host learns of time, may give up locks and ends a script (Run.Tick). A Lua stack has at most maxCalls calls and
// maxRegistry values, an expression maxDepth levels, a string that a script builds maxString bytes, the cache maxScripts
// scripts and maxCacheBytes. Not bounded is the memory of all the tables and strings that a script keeps: as in Redis, a
// script that only collects can exhaust the machine, until the Host's limit of time ends it. One call of a library function
// (sorting a large table) is not interrupted, but for those that search for patterns.
//
// A library of functions may run 500 ms when it is loaded, and MaxLibrary bounds it with all that it registers; maxShelf states
// that have run one are kept for the next calls.
//
// # What differs from Redis
//
// Messages of the interpreter name no variables ("attempt to call a nil value", not "attempt to call local 'x' (a nil
// value)"), syntax errors say where but not what was expected. getmetatable of a string answers false. What a script sets of the
// global cjson ends with it. Missing are coroutine.wrap, collectgarbage's effects, and loadstring of bytecode.
package script
