package random

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"hypercache/node/command/golden"
)

// programs is a grammar of small Lua scripts: each part has its alternatives, one a line, with other parts in angle brackets.
// <call> is a random request as arguments of redis.call; numbers and strings are at the edges of what conversions do.
var programs = parts(`
script
	return redis.call(<call>)
	return redis.pcall(<call>)
	return <x>
	return <x>
	return {<x>,<x>}
	return <t>
	return {verbatim_string={format='txt', string=<s>}}
	local r = redis.pcall(<call>) return {type(r), type(r) == 'table' and #r or 0, type(r) == 'table' and r.err or false, r}
	redis.call(<call>) return redis.pcall(<call>)
	redis.call(<call>) redis.call(<call>) return <x>
	redis.pcall(<call>) redis.pcall(<call>) return redis.call(<call>)
	redis.pcall(<call>) error(<e>)
	redis.setresp(3) return redis.call(<call>)
	redis.setresp(<resp>) local r = redis.pcall(<call>) redis.setresp(2) return r
	redis.setresp(3) local r = redis.pcall(<call>) return {type(r), type(r) == 'table' and {r.ok or false, r.err or false, type(r.double), type(r.map), type(r.set)} or r}
	local a, b = redis.pcall(<call>), redis.pcall(<call>) return {a, b}
	local r = redis.pcall(<call>) if type(r) == 'table' and r.err then return r.err end return cjson.encode(r)
	return cmsgpack.unpack(cmsgpack.pack(redis.pcall(<call>)))
	local out = {} for i = 1, <small> do out[#out+1] = redis.call('INCRBY', KEYS[1], i) end return out
	for i = 1, <small> do redis.pcall(<call>) end return redis.pcall(<call>)
	local ok, e = pcall(redis.call, <call>) return {ok, type(e), type(e) == 'table' and (e.err or e[1]) or e}
	local ok, e = pcall(function() return <x> end) return {ok, e}
	if <x> then return 1 else return 0 end
	return #KEYS .. '/' .. #ARGV
	return {KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]}
	return redis.sha1hex(<s>)
	return {redis.sha1hex(<s>), redis.REDIS_VERSION, redis.REDIS_VERSION_NUM, redis.LOG_WARNING, redis.REPL_ALL}
	return redis.log(redis.LOG_DEBUG, <s>)
	return redis.set_repl(redis.REPL_ALL)
	return redis.replicate_commands()
	return redis.breakpoint()
	<fault>
	<strings>
	<strings>
	<numbers>
	<packs>
	<packs>
	<bits>
	<json>
	<json>
resp
	2
	3
	4
	'x'
small
	1
	2
	5
e
	<s>
	{err='ERR a text'}
	<n>
	{err='ERR of my own'}
	{err='MYERR of my own', extra=1}
	'a message', 0
n
	0
	1
	-1
	2
	3.7
	-3.99
	0.1
	1e15
	2^53
	255
	256
	65536
	2147483648
	4294967295
	(<n> + <n>)
	(<n> * 2)
	(<n> - <n>)
	(<n> / 4)
	#<s>
s
	''
	'a'
	'hello world'
	'12'
	'-5.5'
	'0x10'
	' 7 '
	'1e3'
	'a\\0b\\r\\n\\255'
	'{"a":1}'
	(<s> .. <s>)
	(<s> .. <n>)
	tostring(<n>)
	ARGV[1]
	ARGV[2]
	KEYS[1]
x
	nil
	true
	false
	<n>
	<s>
	<t>
	{ok='FINE'}
	{ok=<s>}
	{err='ERR it is'}
	{err='it is'}
	{err='-it is'}
	{ok=1}
	{double=3.25}
	{double=<n>}
	{map={a=1}}
	{map={}}
	{set={a=true}}
	{set={}}
	{big_number='123456789012345678901234567890'}
	redis.status_reply(<s>)
	redis.error_reply(<s>)
	redis.error_reply('MY word')
	redis.error_reply('-MY word')
	<n> < <n>
	<s> == <s>
	<s> < <s>
	(<s> and <n>)
	(nil or <s>)
	not <n>
	tonumber(<s>)
	tonumber(<s>, 16)
	type(<n>)
	math.max(<n>, <n>, 3)
	function() end
t
	{}
	{<x>}
	{<x>,<x>,<x>}
	{1,nil,3}
	{1,2,false,4}
	{<t>,<n>}
	{a=1}
	{1,a=1}
	{[1]=<n>,[2]=<s>,[4]=1}
	{<s>,{<s>,{<s>}}}
fault
	return redis.call()
	return redis.pcall()
	return redis.call('nosuch')
	return redis.pcall('nosuch', <s>)
	return redis.call('get')
	return redis.pcall('get', KEYS[1], <s>, <s>)
	return redis.call('get', {})
	return redis.call('get', nil)
	return redis.call('get', true)
	return redis.call(1)
	return redis.call('eval', 'return 1', 0)
	return redis.call('multi')
	return redis.call('subscribe', 'c')
	return redis.call('blpop', KEYS[1], 0)
	return redis.call('brpoplpush', KEYS[1], KEYS[1], 0)
	return redis.pcall('bzpopmin', KEYS[1], 0)
	return redis.call('xread', 'block', 0, 'streams', KEYS[1], '$')
	return redis.call('set', KEYS[1], <n>)
	return redis.call('get', KEYS[1] .. 'x')
	return redis.call('echo', <s>)
	return redis.call('ping')
	return redis.call('publish', 'ch1', <s>)
	return redis.call('spublish', 'ch1', <s>)
	return redis.call('script', 'flush')
	return redis.call('client', 'id')
	return redis.call('hello', 3)
	return redis.call('wait', 0, 0)
	return redis.call('time')[3]
	return redis.error_reply()
	return redis.error_reply(1)
	return redis.status_reply(<n>)
	return redis.sha1hex()
	return redis.setresp()
	return redis.nosuch
	return redis.nosuch()
	x = 1
	return x
	local t = setmetatable({}, {__index = function() return 7 end}) return t.a
	redis.call = nil
	string.x = 1
	return _G.redis == redis
	return rawget(_G, 'x')
	setmetatable(_G, {})
	return print
	return os.time
	return os.clock() >= 0
	return io
	return require
	return loadstring('return 1 + 1')()
	return load(function() return nil end)
	return dofile
	return debug
	return {pcall(error)}
	return {pcall(error, {err='ERR in a table'})}
	error()
	return nil + 1
	return {} .. 'x'
	return 1 < 'x'
	return #nil
	return ('x')()
	return ('x'):nosuch()
	return nil .. 'x'
	return tostring(nil) .. tostring(true)
	return assert(<x>, <s>)
	return assert(false)
	return select('#', <x>, <x>)
	return {select(2, <n>, <s>, <n>)}
	return select(0)
	return unpack({<n>,<s>,<n>})
	return {unpack({1,2,3}, 2)}
	return {next({})}
	return {ipairs({})}
	return rawequal(<s>, <s>)
	return tostring(12345678901234567890)
	this is not Lua
	return (
	return 'unfinished
	local x <const> = 1
	goto x
	return 1 return 2
	break
	return 7 // 2
strings
	return string.rep(<s>, <small>)
	return {string.find(<s>, <pattern>)}
	return {string.find('a.b.c', '.', <small>, true)}
	return {string.match('key = value', <pattern>)}
	return {string.gsub('hello world', <pattern>, <s>)}
	return {string.gsub('hello world', 'o', {o='0'}, <small>)}
	return {string.gsub('hello', '.', function(c) return c .. c end)}
	local out = {} for w in string.gmatch('one two 3', <pattern>) do out[#out+1] = w end return out
	return string.sub(<s>, <small>, <small>)
	return string.sub('hello', <i>, <i>)
	return {string.byte(<s>, <i>, <i>)}
	return string.char(<small>, 65, 255)
	return string.format(<format>, <small>)
	return string.format('%s|%10s|%-10s|%.2s', <n>, 'abc', 'd', 'efg')
	return string.format('%q', 'say "hi"')
	return string.format('%d', <s>)
	return string.format('%d %s', <small>, 'x')
	return string.upper(<s>) .. string.lower('ABC') .. string.reverse(<s>)
	return table.concat({<n>, <s>, <n>}, <s>)
	return table.concat({1, 2, 3}, ',', <i>, <i>)
	local t = {5, 2, 8, 1} table.sort(t) return t
	local t = {'b', 'a', 'c'} table.sort(t, function(a, b) return a > b end) return t
	local t = {1, 2, 3} table.insert(t, <small>, 9) return t
	local t = {1, 2, 3} return {table.remove(t), table.remove(t, 1), #t}
	return {table.maxn({1, 2, [10] = 3}), table.getn({1, 2})}
	return string.len(<s>) + #<s>
pattern
	'%a+'
	'(%w+) = (%w+)'
	'o'
	'^h'
	'd$'
	'()ll()'
	'[^aeiou ]+'
	'%s*'
	'%d'
	'.-'
	'%b()'
	'[a'
	''
	<s>
format
	'%d'
	'%5d|%%'
	'%-5d|'
	'%05d'
	'%+d'
	'%i'
	'%u'
	'%x'
	'%X'
	'%#x'
	'%c'
	'%f'
	'%.2f'
	'%10.3f'
	'%e'
	'%.3E'
	'%g'
	'%.14g'
	'%.17g'
	'%G'
	'%s'
	'%a'
	'%y'
	'%d %d'
i
	0
	1
	2
	3
	-1
	-2
	10
	1.5
numbers
	return math.floor(<n>)
	return tostring(math.ceil(<n>))
	return tostring(math.abs(<n>))
	return tostring(math.fmod(<n>, 3))
	return tostring(<n> ^ 2)
	return tostring(<n> / <n>)
	return tostring(-<small>)
	return {math.modf(3.7)}
	return tostring(math.sqrt(<n>))
	return {math.frexp(8), math.ldexp(1, 4)}
	return tostring(math.huge) .. tostring(-math.huge)
	return tostring(math.pi)
	return tostring(tonumber(<s>))
	return 10 .. 20
	return math.min(<n>, <n>)
	return {math.floor(<n>), <n> == <n>}
	return tostring(1e15) .. ' ' .. tostring(1e16) .. ' ' .. tostring(123456789012) .. ' ' .. tostring(0.1 + 0.2)
	return tonumber('0x1p4')
	return tonumber('1e')
	return tonumber('ff', 16) + tonumber('zz', 36) + tonumber('101', 2)
	return tonumber('8', 8)
packs
	return cmsgpack.pack(<x>)
	return cmsgpack.pack(<x>, <x>)
	return cmsgpack.pack(<t>)
	return cmsgpack.pack({<n>,<s>,<n>})
	return cmsgpack.unpack(cmsgpack.pack(<t>))
	return cmsgpack.unpack(<s>)
	return {cmsgpack.unpack(cmsgpack.pack(<n>, <s>, <n>))}
	return {cmsgpack.unpack_one(cmsgpack.pack(<n>, <s>))}
	return {cmsgpack.unpack_one(cmsgpack.pack(<n>, <s>), 1)}
	return cmsgpack.pack()
	return struct.pack(<layout>, 1, 2, 3)
	return struct.pack('>I2', <n>)
	return struct.pack('s', <s>)
	return struct.pack('c0', <s>)
	return struct.pack('c2', <s>)
	return {struct.unpack(<layout>, 'abcdefghijklmnop')}
	return {struct.unpack(<layout>, 'abcdefghijklmnop', <i>)}
	return {struct.unpack('s', struct.pack('s', 'text'))}
	return {struct.unpack(<layout>, <s>)}
	return struct.size(<layout>)
	return struct.pack(<s>, <n>)
layout
	'b'
	'B'
	'h'
	'H'
	'i'
	'I'
	'l'
	'L'
	'>i4'
	'<I2'
	'=h'
	'!4bi'
	'>I3'
	'bxb'
	'f'
	'd'
	'>d'
	'c3'
	's'
	'Bc0'
	'i8'
	'I16'
	'I33'
	'T'
	'!3'
	'>!8 b d'
bits
	return bit.tobit(<n>)
	return bit.tohex(<n>)
	return bit.tohex(<n>, <i>)
	return bit.bnot(<n>)
	return bit.band(<n>, <n>)
	return bit.bor(<n>, <n>, <n>)
	return bit.bxor(<n>, <n>)
	return bit.lshift(<n>, <i>)
	return bit.rshift(<n>, <i>)
	return bit.arshift(<n>, <i>)
	return bit.rol(<n>, <i>)
	return bit.ror(<n>, <i>)
	return bit.bswap(<n>)
	return bit.band(<s>)
	return bit.band()
json
	return cjson.encode(<x>)
	return cjson.encode(<t>)
	return cjson.encode({<n>,<s>,<n>})
	return cjson.encode({a=<n>})
	return cjson.encode({a={b={<s>}}})
	return cjson.encode({[1]=1,[2]=2,[5]=5})
	return cjson.encode({[1]=1,[100]=2})
	return cjson.encode(cjson.null)
	return cjson.encode({cjson.null, <n>})
	return cjson.encode(cjson.decode(<text>))
	local r = cjson.decode(<text>) return {type(r), type(r) == 'table' and (r.a or r[1]) or 'neither'}
	return cjson.decode(<s>)
	return cjson.decode('[1,2.5,"x",true,null]')
	return cjson.decode('{"a":[1,{"b":2}]}').a[2].b
	return cjson.encode({1/0})
	return cjson.encode(function() end)
	return cjson.encode({[true]=1})
	return cjson.encode({[1.5]=1})
	return cjson.decode('[0x10, 1e2, -5]')
	return cjson.encode({cjson.decode('{}'), cjson.decode('[]')})
text
	'{}'
	'[]'
	'[1,2,3]'
	'{"a":1}'
	'{"a":"x\\u00e9\\ud83d\\ude00"}'
	'"a\\\\/b\\\\n"'
	'[1.5,-0,1e5,1e400]'
	'[true,false,null]'
	'nul'
	'{"a":}'
	'[1,]'
	'"unfinished'
	'[1 2]'
	'{1:2}'
	''
	'[[[[]]]]'
	' [ 1 , 2 ] '
	'[1]x'
	'\\0'
	'"\\\\ud800"'
	'01'
`)

func parts(text string) map[string][]string {
	all := map[string][]string{}
	name := ""
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		if body, ok := strings.CutPrefix(line, "\t"); ok {
			all[name] = append(all[name], strings.ReplaceAll(body, `\\`, `\`))
			continue
		}
		name = line
	}
	return all
}

// Script is an EVAL, EVAL_RO, or EVALSHA of a random script.
func Script(rng *rand.Rand) [][]byte {
	l := &lua{rng: rng}
	for range 1 + rng.IntN(3) {
		l.keys = append(l.keys, Pick(rng, Keys))
	}
	for range rng.IntN(4) {
		l.args = append(l.args, Pick(rng, valueWords))
	}
	body := l.part("script", 0)
	name := "EVAL"
	if rng.IntN(8) == 0 {
		name = "EVAL_RO"
	}
	if rng.IntN(20) == 0 {
		body = Pick(rng, []string{"#!lua\n", "#!lua flags=no-writes\n", "#!lua flags=allow-oom,allow-stale\n", "#!lua flags=x\n",
			"#!js\n", "#!lua flags=no-cluster\n", "#!lua name=x\n", "#!lua", "#!lua flags=\n"}) + body
	}
	words := append([]string{name, body, strconv.Itoa(len(l.keys))}, append(l.keys, l.args...)...)
	if rng.IntN(40) == 0 {
		words[2] = Pick(rng, []string{"x", "-1", "100", "", "1.5", "0"})
	}
	return Words(words...)
}

// Words makes a request.
func Words(words ...string) [][]byte {
	args := make([][]byte, len(words))
	for i, w := range words {
		args[i] = []byte(w)
	}
	return args
}

// lua makes one script.
type lua struct {
	rng        *rand.Rand
	keys, args []string
}

const maxNesting = 6

func (l *lua) part(name string, depth int) string {
	if name == "call" {
		return l.call()
	}
	all := programs[name]
	if len(all) == 0 {
		panic("the grammar of scripts has no part " + name)
	}
	text := Pick(l.rng, all)
	if depth > maxNesting {
		text = all[l.rng.IntN(min(3, len(all)))] // the first ones end
	}
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "<")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		word, after, ok := strings.Cut(rest, ">")
		if ok && (programs[word] != nil || word == "call") {
			b.WriteString(l.part(word, depth+1))
			text = after
			continue
		}
		b.WriteByte('<')
		text = rest
	}
}

// call writes a request as arguments in Lua, some of them by KEYS and ARGV.
func (l *lua) call() string {
	args := Request(l.rng)
	for !Plain(args) {
		args = Request(l.rng)
	}
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = l.literal(string(a))
	}
	return strings.Join(words, ", ")
}

func (l *lua) literal(s string) string {
	switch l.rng.IntN(4) {
	case 0:
		for i, k := range l.keys {
			if k == s {
				return fmt.Sprintf("KEYS[%d]", i+1)
			}
		}
	case 1:
		for i, a := range l.args {
			if a == s {
				return fmt.Sprintf("ARGV[%d]", i+1)
			}
		}
	case 2:
		if n, err := strconv.Atoi(s); err == nil && strconv.Itoa(n) == s && n > -1000000 && n < 1000000 {
			return s
		}
	}
	var b strings.Builder
	b.WriteByte('\'')
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c <= '~' && c != '\\' && c != '\'' && c != '<' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\%03d`, c)
		}
	}
	return b.String() + "'"
}

// Plain says that a request may be part of a transaction or a script, and that nothing of its reply is by chance or by
// time.
func Plain(args [][]byte) bool {
	name := strings.ToUpper(string(args[0]))
	if mark, ok := compareAs[name]; ok && mark != golden.Exact || withoutTimes[name] != nil {
		return false
	}
	if len(args) > 1 && string(args[1]) == "no" {
		return false // a key of another slot
	}
	switch name {
	case "LCS", "SCAN", "SSCAN", "ZSCAN", "HSCAN", "HGETALL", "FLUSHALL", "KEYS", "SORT", "SORT_RO":
		return false
	}
	return true
}
