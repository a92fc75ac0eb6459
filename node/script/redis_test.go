package script

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hypercache/node/resp"
)

// What a server of Redis 7.0.15 answers is in the tests of this file: a bulk string's text, a number as text, and the error
// without its place, behind a dash.
func answersAs(t *testing.T, want map[string]string) {
	t.Helper()
	e := New()
	for body, want := range want {
		if got := plainAnswer(run(t, e, body, time.Minute)); got != want {
			t.Errorf("%s: %q, Redis has %q", body, got, want)
		}
	}
}

func plainAnswer(reply string) string {
	line, rest, _ := strings.Cut(reply, "\r\n")
	switch line[0] {
	case '$':
		if line == "$-1" {
			return "nil"
		}
		return rest[:len(rest)-2]
	case ':':
		return line[1:]
	case '*':
		n, _ := strconv.Atoi(line[1:])
		return strconv.Itoa(n) + " values"
	}
	line, _, _ = strings.Cut(line, " script: ")
	return strings.Replace(strings.Replace(line, "-ERR ", "-", 1), "-user_script:1: ", "-", 1)
}

func TestRandomNumbersDifferFromCallToCall(t *testing.T) {
	e := New()
	l := load(t, e, "redis.register_function('f', function() return tostring(math.random()) end)")
	const body = "return tostring(math.random())"
	if a, b := run(t, e, body, 0), run(t, e, body, 0); a == b {
		t.Errorf("two scripts had %s", a)
	}
	if a, b := call(l, "f", &host{}), call(l, "f", &host{}); a == b {
		t.Errorf("two calls of a function had %s", a)
	}
}

func TestASeedGivesTheNumbersThatRedisHas(t *testing.T) {
	answersAs(t, map[string]string{
		"math.randomseed(1) return tostring(math.random())":                                            "0.041630344484761",
		"math.randomseed(1.7) local s for i = 1, 5 do s = math.random() end return tostring(s)":        "0.56548940370115",
		"math.randomseed('7') return math.random('10')":                                                "3",
		"math.randomseed(-1) return math.random(100)..' '..math.random(100)..' '..math.random(10, 20)": "31 5 13",
		"math.randomseed(3) return math.random(-5, 5)..' '..math.random(-1.5, 0)":                      "3 0",
		"math.randomseed(1e10) return math.random(1000000)":                                            "826714",
		"math.randomseed(1/0) return math.random(1000000)":                                             "170829",
		"math.randomseed(4294967297) return math.random(1000000)":                                      "41631",
		"math.randomseed(3) return math.random(1e10)":                                                  "1104412527",
		"return math.random(-2147483648, 2147483647)":                                                  "-2147483648",
		"return math.random(0)":       "-bad argument #1 to 'random' (interval is empty)",
		"return math.random(2, 1)":    "-bad argument #2 to 'random' (interval is empty)",
		"return math.random(3e9)":     "-bad argument #1 to 'random' (interval is empty)",
		"return math.random(1, 2, 3)": "-wrong number of arguments",
		"return math.random('x')":     "-bad argument #1 to 'random' (number expected, got string)",
	})
}

func TestCJSONHasItsSettings(t *testing.T) {
	answersAs(t, map[string]string{
		"local a, b, c = cjson.encode_sparse_array() return tostring(a)..b..' '..c":              "false2 10",
		"local a, b, c = cjson.encode_sparse_array(true, 1, 2) return tostring(a)..b..' '..c":    "true1 2",
		"local a, b, c = cjson.encode_sparse_array(nil, '3', nil) return tostring(a)..b..' '..c": "false3 10",
		"return tostring(cjson.encode_sparse_array('on'))":                                       "true",
		"cjson.encode_sparse_array(false, -1)":                                                   "-bad argument #1 to 'encode_sparse_array' (expected integer between 0 and 2147483647)",
		"cjson.encode_sparse_array(1)":                                                           "-bad argument #1 to 'encode_sparse_array' (invalid option '1')",
		"cjson.encode_sparse_array('x')":                                                         "-bad argument #1 to 'encode_sparse_array' (invalid option 'x')",
		"cjson.encode_sparse_array(true, 'x')":                                                   "-bad argument #2 to 'encode_sparse_array' (number expected, got string)",
		"cjson.encode_sparse_array(true, 1, 2, 3)":                                               "-bad argument #4 to 'encode_sparse_array' (found too many arguments)",
		"return cjson.encode({[30] = 2})":                                                        "-Cannot serialise table: excessively sparse array",
		"cjson.encode_sparse_array(true) return cjson.encode({[30] = 2})":                        `{"30":2}`,
		"cjson.encode_sparse_array(true, 0) return cjson.encode({[12] = 2})":                     "[null,null,null,null,null,null,null,null,null,null,null,2]",
		"cjson.encode_sparse_array(false, 1) return cjson.encode({[12] = 2})":                    "-Cannot serialise table: excessively sparse array",
		"cjson.encode_sparse_array(true, 2, 3) return cjson.encode({[5] = 2})":                   `{"5":2}`,
		"return cjson.encode_max_depth()":                                                        "1000",
		"return cjson.encode_max_depth(2.7)":                                                     "2",
		"return cjson.encode_max_depth('12')":                                                    "12",
		"return cjson.encode_max_depth(2^32 + 5)":                                                "5",
		"cjson.encode_max_depth(0)":                                                              "-bad argument #1 to 'encode_max_depth' (expected integer between 1 and 2147483647)",
		"cjson.encode_max_depth(true)":                                                           "-bad argument #1 to 'encode_max_depth' (number expected, got boolean)",
		"cjson.encode_max_depth(1, 2)":                                                           "-bad argument #2 to 'encode_max_depth' (found too many arguments)",
		"cjson.encode_max_depth(2) return cjson.encode({{1}})":                                   "[[1]]",
		"cjson.encode_max_depth(2) return cjson.encode({{{}}})":                                  "-Cannot serialise, excessive nesting (3)",
		"local t = {} t[1] = t return cjson.encode(t)":                                           "-Cannot serialise, excessive nesting (1001)",
		"cjson.encode_max_depth(2^31 - 1) local t = {} t[1] = t local _, e = pcall(function() return cjson.encode(t) end) return e": "user_script:1: Cannot serialise, excessive nesting (7998)",
		"cjson.encode_max_depth(2^31 - 1) local t = {} t.a = t local _, e = pcall(function() return cjson.encode(t) end) return e":  "user_script:1: Cannot serialise, excessive nesting (4000)",
		"return cjson.decode_max_depth()":                                         "1000",
		"cjson.decode_max_depth(0)":                                               "-bad argument #1 to 'decode_max_depth' (expected integer between 1 and 2147483647)",
		"cjson.decode_max_depth({})":                                              "-bad argument #1 to 'decode_max_depth' (number expected, got table)",
		"cjson.decode_max_depth(1) return cjson.decode('[7]')[1]":                 "7",
		"cjson.decode_max_depth(1) return cjson.decode('[{}]')[1]":                "-Found too many nested data structures (2) at character 2",
		"return #cjson.decode(string.rep('[', 1000)..'1'..string.rep(']', 1000))": "1",
		"return #cjson.decode(string.rep('[', 1001)..'1'..string.rep(']', 1001))": "-Found too many nested data structures (1001) at character 1001",
		"cjson.decode_max_depth(2^31 - 1) local _, e = pcall(function() return cjson.decode(string.rep('[', 100000)) end) return e":     "user_script:1: Found too many nested data structures (7999) at character 7999",
		`cjson.decode_max_depth(2^31 - 1) local _, e = pcall(function() return cjson.decode(string.rep('{"a":', 100000)) end) return e`: "user_script:1: Found too many nested data structures (4000) at character 19996",
		"return cjson.encode_number_precision()":                                           "14",
		"return cjson.encode_number_precision(0)":                                          "-bad argument #1 to 'encode_number_precision' (expected integer between 1 and 14)",
		"return cjson.encode_number_precision(15)":                                         "-bad argument #1 to 'encode_number_precision' (expected integer between 1 and 14)",
		"cjson.encode_number_precision(3) return cjson.encode({1/3, 1234567, [4] = 100})":  "[0.333,1.23e+06,null,100]",
		"cjson.encode_number_precision(1) return cjson.encode({1.5, 123})":                 "[2,1e+02]",
		"return tostring(cjson.encode_invalid_numbers())":                                  "false",
		"return tostring(cjson.encode_invalid_numbers('null'))":                            "null",
		"return tostring(cjson.encode_invalid_numbers(true))":                              "true",
		"cjson.encode_invalid_numbers('bad')":                                              "-bad argument #1 to 'encode_invalid_numbers' (invalid option 'bad')",
		"cjson.encode_invalid_numbers(1)":                                                  "-bad argument #1 to 'encode_invalid_numbers' (invalid option '1')",
		"cjson.encode_invalid_numbers({})":                                                 "-bad argument #1 to 'encode_invalid_numbers' (string expected, got table)",
		"return cjson.encode({1/0})":                                                       "-Cannot serialise number: must not be NaN or Inf",
		"return cjson.encode({[1/0] = 1})":                                                 "-Cannot serialise number: must not be NaN or Inf",
		"cjson.encode_invalid_numbers('on') return cjson.encode({1/0, -1/0, 0/0, -(0/0)})": "[inf,-inf,nan,nan]",
		"cjson.encode_invalid_numbers('null') return cjson.encode({1/0, -1/0, 0/0})":       "[null,null,null]",
		"return tostring(cjson.decode_invalid_numbers())":                                  "true",
		"return tostring(cjson.decode_invalid_numbers('off'))":                             "false",
		"cjson.decode_invalid_numbers('null')":                                             "-bad argument #1 to 'decode_invalid_numbers' (invalid option 'null')",
		"cjson.decode_invalid_numbers(false) return tostring(cjson.decode('[-0]')[1])":     "-0",
		"cjson.decode_invalid_numbers(false) return cjson.decode('[01]')[1]":               "-Expected value but found invalid number at character 2",
		"cjson.decode_invalid_numbers(false) return cjson.decode('[0x1]')[1]":              "-Expected value but found invalid number at character 2",
		"cjson.decode_invalid_numbers(false) return cjson.decode('[+1]')[1]":               "-Expected value but found invalid token at character 2",
		"cjson.decode_invalid_numbers(false) return cjson.decode('[NaN]')[1]":              "-Expected value but found invalid token at character 2",
		"cjson.decode_invalid_numbers(false) return cjson.decode('[-inf]')[1]":             "-Expected value but found invalid number at character 2",
		"cjson.decode_invalid_numbers(false) return cjson.decode('[1.]')[1]":               "1",
		"return tostring(cjson.encode_keep_buffer())":                                      "true",
		"return tostring(cjson.encode_keep_buffer(false))":                                 "false",
		"cjson.encode_keep_buffer(1)":                                                      "-bad argument #1 to 'encode_keep_buffer' (invalid option '1')",
		"local c = cjson.new(1, 2) c.x = 1 c.encode_max_depth(1) return cjson.encode({{}})..type(c.new)..tostring(c.null == cjson.null)": "[{}]functiontrue",
		"local c = cjson.new() c.encode_max_depth(1) return c.encode({{}})":                                                              "-Cannot serialise, excessive nesting (2)",
		"return cjson._NAME..' '..cjson._VERSION..' '..cjson.new()._VERSION":                                                             "cjson 2.1.0 2.1.0",
		"return cmsgpack._NAME..' '..cmsgpack._VERSION..' '..cmsgpack._COPYRIGHT..' '..cmsgpack._DESCRIPTION":                            "cmsgpack lua-cmsgpack 0.4.0 Copyright (C) 2012, Salvatore Sanfilippo MessagePack C implementation for Lua",
	})
}

func TestFunctionsOfOlderLuaAreThere(t *testing.T) {
	answersAs(t, map[string]string{
		"return table.foreach({1, 2, x = 3}, function(k, v) if k == 'x' then return v end end)":    "3",
		"return table.foreach({}, function() return 1 end)":                                        "nil",
		"return table.foreach({}, 1)":                                                              "-bad argument #2 to 'foreach' (function expected, got number)",
		"return table.foreach(1)":                                                                  "-bad argument #1 to 'foreach' (table expected, got number)",
		"return table.foreach(cjson, function(k, v) if k == '_NAME' then return v end end)":        "cjson",
		"local n = 0 table.foreach(string, function() n = n + 1 end) return n":                     "15",
		"local n = 0 table.foreach(table, function() n = n + 1 end) return n":                      "9",
		"return table.foreachi({1, 2}, function(k, v) if v == 2 then return k..'/'..v end end)":    "2/2",
		"return table.foreachi({1, nil, 3}, function(k, v) if v == nil then return 'nil' end end)": "nil",
		"return table.foreachi(1)":                                                                 "-bad argument #1 to 'foreachi' (table expected, got number)",
		"table.foreach({1}, function() error('x') end)":                                            "-x",
		"table.setn({}, 1)": "-'setn' is obsolete",
		"table.setn(1)":     "-bad argument #1 to 'setn' (table expected, got number)",
		"local n = 0 for w in string.gfind('a b', '%a') do n = n + 1 end return n": "2",
	})
}

func TestJSONIsReadAsCJSONDoes(t *testing.T) {
	answersAs(t, map[string]string{
		"return tostring(cjson.decode('[1]')[1])":                            "1",
		"return tostring(cjson.decode('[01]')[1])":                           "1",
		"return tostring(cjson.decode('[0x1]')[1])":                          "1",
		"return tostring(cjson.decode('[+1]')[1])":                           "1",
		"return tostring(cjson.decode('[NaN]')[1])":                          "nan",
		"return tostring(cjson.decode('[nan]')[1])":                          "nan",
		"return tostring(cjson.decode('[Infinity]')[1])":                     "inf",
		"return tostring(cjson.decode('[infinity]')[1])":                     "inf",
		"return tostring(cjson.decode('[-inf]')[1])":                         "-inf",
		"return tostring(cjson.decode('[-0]')[1])":                           "-0",
		"return tostring(cjson.decode('[nul]')[1])":                          "-Expected value but found invalid token at character 2",
		"return tostring(cjson.decode('[-]')[1])":                            "-Expected value but found invalid number at character 2",
		"return tostring(cjson.decode('[.5]')[1])":                           "-Expected value but found invalid token at character 2",
		"return tostring(cjson.decode('[1.]')[1])":                           "1",
		"return tostring(cjson.decode('[0x1.8]')[1])":                        "1.5",
		"return tostring(cjson.decode('[0b11]')[1])":                         "-Expected comma or array end but found invalid token at character 3",
		"return tostring(cjson.decode('[0o7]')[1])":                          "-Expected comma or array end but found invalid token at character 3",
		"return tostring(cjson.decode('[0x]')[1])":                           "-Expected comma or array end but found invalid token at character 3",
		"return tostring(cjson.decode('[1e]')[1])":                           "-Expected comma or array end but found invalid token at character 3",
		"return tostring(cjson.decode('[1e+]')[1])":                          "-Expected comma or array end but found invalid token at character 3",
		"return tostring(cjson.decode('[1e+2]')[1])":                         "100",
		"return tostring(cjson.decode('[+]')[1])":                            "-Expected value but found invalid number at character 2",
		"return tostring(cjson.decode('[INFIN]')[1])":                        "-Expected comma or array end but found invalid token at character 5",
		"return tostring(cjson.decode('[nan(12)]')[1])":                      "nan",
		"return tostring(cjson.decode('[1_0]')[1])":                          "-Expected comma or array end but found invalid token at character 3",
		"return tostring(cjson.decode('[0x_1]')[1])":                         "-Expected comma or array end but found invalid token at character 3",
		"return tostring(cjson.decode('[0x.p1]')[1])":                        "-Expected comma or array end but found invalid token at character 3",
		"return tostring(cjson.decode('[0x.8p1]')[1])":                       "1",
		"return tostring(cjson.decode('[-0x1p-1]')[1])":                      "-0.5",
		"return tostring(cjson.decode('[Nope]')[1])":                         "-Expected value but found invalid token at character 2",
		"return tostring(cjson.decode('[1 2]')[1])":                          "-Expected comma or array end but found T_NUMBER at character 4",
		"return tostring(cjson.decode('{a')[1])":                             "-Expected object key string but found invalid token at character 2",
		"return tostring(cjson.decode('[+-1]')[1])":                          "-Expected value but found invalid number at character 2",
		"return tostring(cjson.decode('[- 1]')[1])":                          "-Expected value but found invalid number at character 2",
		"return tostring(cjson.decode('[1e999]')[1])":                        "inf",
		"return tostring(cjson.decode('[1e-999]')[1])":                       "0",
		"return tostring(cjson.decode('[0x1p99999]')[1])":                    "inf",
		"return tostring(cjson.decode('[i]')[1])":                            "-Expected value but found invalid token at character 2",
		"return tostring(cjson.decode('[iNf]')[1])":                          "inf",
		"return tostring(cjson.decode('[tru]')[1])":                          "-Expected value but found invalid token at character 2",
		"return tostring(cjson.decode('[nan()]')[1])":                        "nan",
		"return tostring(cjson.decode('[nan(-)]')[1])":                       "-Expected comma or array end but found invalid token at character 5",
		"return tostring(cjson.decode('[1.2.3]')[1])":                        "-Expected comma or array end but found invalid token at character 5",
		"return tostring(cjson.decode('[0x1P]')[1])":                         "-Expected comma or array end but found invalid token at character 5",
		"return tostring(cjson.decode('[9007199254740993]')[1])":             "9.007199254741e+15",
		`return cjson.decode('"a\0b"')`:                                      "-Expected value but found unexpected end of string at character 3",
		`return cjson.decode('\0')`:                                          "-Expected value but found T_END at character 1",
		`return cjson.decode('\0\0')`:                                        "-JSON parser does not support UTF-16 or UTF-32",
		`return cjson.decode('1\0')`:                                         "-JSON parser does not support UTF-16 or UTF-32",
		`return #cjson.decode('[1]\0x')`:                                     "1",
		`return cjson.decode('"\\u12"')`:                                     "-Expected value but found invalid unicode escape code at character 2",
		`return cjson.decode('"\\ud800x"')`:                                  "-Expected value but found invalid unicode escape code at character 2",
		`return cjson.decode('"\\ud800\\u0041"')`:                            "-Expected value but found invalid unicode escape code at character 2",
		`return cjson.decode('"\\udc00\\ud800"')`:                            "-Expected value but found invalid unicode escape code at character 2",
		`return cjson.decode('"\\uD83D\\uDE00"')`:                            "\xf0\x9f\x98\x80",
		`return cjson.decode('"\\q"')`:                                       "-Expected value but found invalid escape code at character 2",
		`return cjson.decode('"\\')`:                                         "-Expected value but found invalid escape code at character 2",
		"return cjson.decode('')":                                            "-Expected value but found T_END at character 1",
		"return cjson.decode('[')":                                           "-Expected value but found T_END at character 2",
		"return cjson.decode('[1')":                                          "-Expected comma or array end but found T_END at character 3",
		`return cjson.decode('["')`:                                          "-Expected value but found unexpected end of string at character 3",
		`return cjson.decode('{"a"')`:                                        "-Expected colon but found T_END at character 5",
		"return cjson.decode('{1:2}')":                                       "-Expected object key string but found T_NUMBER at character 2",
		`return cjson.decode('{"a":}')`:                                      "-Expected value but found T_OBJ_END at character 6",
		"return cjson.decode('{true')":                                       "-Expected object key string but found T_BOOLEAN at character 2",
		"return cjson.decode('[1,]')":                                        "-Expected value but found T_ARR_END at character 4",
		"return cjson.decode('[1 nul')":                                      "-Expected comma or array end but found invalid token at character 4",
		"return cjson.decode('[1 true')":                                     "-Expected comma or array end but found T_BOOLEAN at character 4",
		"return cjson.decode('[1 1')":                                        "-Expected comma or array end but found T_NUMBER at character 4",
		`return cjson.decode('[1 "a"')`:                                      "-Expected comma or array end but found T_STRING at character 4",
		"return cjson.decode('[1 null')":                                     "-Expected comma or array end but found T_NULL at character 4",
		`return cjson.decode('[1 "a')`:                                       "-Expected comma or array end but found unexpected end of string at character 6",
		"return cjson.decode('1 2')":                                         "-Expected the end but found T_NUMBER at character 3",
		"return cjson.decode(12)":                                            "12",
		"return cjson.decode({})":                                            "-bad argument #1 to 'decode' (string expected, got table)",
		"return cjson.decode()":                                              "-bad argument #1 to 'decode' (expected 1 argument)",
		"return tostring(cjson.decode(1/3))":                                 "0.33333333333333",
		`return cjson.decode('{"a":1,"b":[true,null,"x\\ty"],"c":{}}').b[3]`: "x\x09y",
	})
}

func TestTheRedisLibraryTakesWhatRedisTakes(t *testing.T) {
	answersAs(t, map[string]string{
		"return redis.set_repl(redis.REPL_NONE)":                "nil",
		"return redis.set_repl(redis.REPL_AOF)":                 "nil",
		"return redis.set_repl(redis.REPL_REPLICA)":             "nil",
		"return select('#', redis.set_repl(redis.REPL_ALL))":    "0",
		"return redis.set_repl('1')":                            "nil",
		"return redis.set_repl({})":                             "nil",
		"return redis.set_repl(3.5)":                            "nil",
		"return redis.set_repl(-0.5)":                           "nil",
		"redis.set_repl(4)":                                     "-Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
		"redis.set_repl(-1)":                                    "-Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
		"redis.set_repl(2^32)":                                  "-Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
		"redis.set_repl()":                                      "-redis.set_repl() requires two arguments.",
		"redis.set_repl(1, 2)":                                  "-redis.set_repl() requires two arguments.",
		"redis.setresp('3')":                                    "nil",
		"redis.setresp('0x2')":                                  "nil",
		"redis.setresp(3.7) return redis.call('ping').ok":       "PONG",
		"redis.setresp('x')":                                    "-RESP version must be 2 or 3.",
		"redis.setresp(1.9)":                                    "-RESP version must be 2 or 3.",
		"redis.setresp(4)":                                      "-RESP version must be 2 or 3.",
		"redis.setresp(nil)":                                    "-RESP version must be 2 or 3.",
		"redis.setresp({})":                                     "-RESP version must be 2 or 3.",
		"redis.setresp(2^32 + 2)":                               "-RESP version must be 2 or 3.",
		"redis.setresp()":                                       "-redis.setresp() requires one argument.",
		"return redis.log('1', 'x')":                            "nil",
		"return redis.log(3.9, 'x')":                            "nil",
		"return redis.log(-0.5, 'x')":                           "nil",
		"redis.log('x', 'x')":                                   "-First argument must be a number (log level).",
		"redis.log({}, 'x')":                                    "-First argument must be a number (log level).",
		"redis.log(4, 'x')":                                     "-Invalid debug level.",
		"redis.log(-1, 'x')":                                    "-Invalid debug level.",
		"redis.log('4', 'x')":                                   "-Invalid debug level.",
		"redis.log(2^32, 'x')":                                  "-Invalid debug level.",
		"redis.log(1)":                                          "-redis.log() requires two arguments or more.",
		"return tostring(redis.acl_check_cmd('get', 'a', 'b'))": "true",
		"return tostring(redis.acl_check_cmd('set', 'a', 'b'))": "false",
		"return tostring(redis.acl_check_cmd('config'))":        "true",
		"return tostring(redis.acl_check_cmd('config', 'get'))": "true",
		"redis.acl_check_cmd('nosuch')":                         "-Invalid command passed to redis.acl_check_cmd()",
		"redis.acl_check_cmd('config', 'nosuch')":               "-Invalid command passed to redis.acl_check_cmd()",
		"redis.acl_check_cmd('config|get')":                     "-Invalid command passed to redis.acl_check_cmd()",
		"redis.acl_check_cmd()":                                 "-Please specify at least one argument for this redis lib call",
		"redis.acl_check_cmd('get', {})":                        "-Lua redis lib command arguments must be strings or integers",
	})
}

func TestWhatIsNoTextIsNotLogged(t *testing.T) {
	s, _ := New().Load([]byte("redis.log(1, 'a', nil, 1/3, {}) redis.log(1, {}, 'b')"))
	h := &host{}
	(&Run{Script: s, Host: h, Version: "7.0.15"}).Do(&resp.Writer{Proto: 2})
	if want := []string{"a 0.33333333333333", " b"}; !slices.Equal(h.logged, want) {
		t.Errorf("logged %q, want %q", h.logged, want)
	}
}

func TestAShebangIsReadAsRedisReadsIt(t *testing.T) {
	answersAs(t, map[string]string{
		"#! lua\nreturn 1":                           "-Unexpected engine in script shebang: #!",
		"#!\nreturn 1":                               "-Unexpected engine in script shebang: #!",
		"#!lua flags=no-writes,\nreturn 1":           "-Unexpected flag in script shebang: ",
		"#!lua \"flags=no-writes\"\nreturn 1":        "1",
		"#!lua flags=\nreturn 1":                     "1",
		"#!lua flags=,no-writes\nreturn 1":           "-Unexpected flag in script shebang: ",
		"#!lua flags=no-writes,,allow-oom\nreturn 1": "-Unexpected flag in script shebang: ",
		"#!lua\nreturn 1":                            "1",
		"#!lua \nreturn 1":                           "1",
		"#!lua":                                      "-Invalid script shebang",
		"#!":                                         "-Invalid script shebang",
		"#! ":                                        "-Invalid script shebang",
		"#!LUA\nreturn 1":                            "-Unexpected engine in script shebang: #!LUA",
		"#!\"lua\"\nreturn 1":                        "1",
		"#!lua \"flags=no-writes\nreturn 1":          "-Invalid engine in script shebang",
		"#!lua\x00\nreturn 1":                        "-Invalid script shebang",
		"#!lua flags=x\nreturn 1":                    "-Unexpected flag in script shebang: x",
		"#!lua flags=no-writes flags=allow-oom\nreturn 1": "1",
		"#!lua FLAGS=no-writes\nreturn 1":                 "-Unknown lua shebang option: FLAGS=no-writes",
		"#!lua flags=No-Writes\nreturn 1":                 "-Unexpected flag in script shebang: No-Writes",
		"#!lua x=1\nreturn 1":                             "-Unknown lua shebang option: x=1",
		"#!lua\x09flags=no-writes\nreturn 1":              "1",
		"#!lua\x0d\nreturn 1":                             "1",
		"#!js\nreturn 1":                                  "-Unexpected engine in script shebang: #!js",
		"#!js x=1\nreturn 1":                              "-Unexpected engine in script shebang: #!js",
		"#!lua 'flags=no-writes'\nreturn 1":               "1",
		"#!lua flags=\"no-writes\"\nreturn 1":             "1",
		"#!lua \"flags=no-writes\"x\nreturn 1":            "-Invalid engine in script shebang",
		"#!lua \"flags=\\x6eo-writes\"\nreturn 1":         "1",
		"#!lua flags=no-writes,allow-oom,allow-stale,no-cluster,allow-cross-slot-keys\nreturn 1": "1",
		"#!lua flags\nreturn 1":                          "-Unknown lua shebang option: flags",
		"#!lua \"flags=no-writes, allow-oom\"\nreturn 1": "-Unexpected flag in script shebang:  allow-oom",
		"#!lua \"flags= no-writes\"\nreturn 1":           "-Unexpected flag in script shebang:  no-writes",
		"#!lua ''\nreturn 1":                             "-Unknown lua shebang option: ",
		"#!''\nreturn 1":                                 "-Unexpected engine in script shebang: #!",
		"#!lua flags=no-writes#\nreturn 1":               "-Unexpected flag in script shebang: no-writes#",
		"#!\x09lua\nreturn 1":                            "-Unexpected engine in script shebang: #!",
		"#!luax\nreturn 1":                               "-Unexpected engine in script shebang: #!luax",
		"#!lua flags=no-writes\n\nerror(\"x\")":          "-user_script:3: x",
	})
}

func TestQuotedFlagsCount(t *testing.T) {
	s, problem := New().Load([]byte("#!lua 'flags=no-writes' flags=\"allow-oom\"\nreturn 1"))
	if problem != "" || s.Flags != (Flags{Declared: true, NoWrites: true, AllowOOM: true}) {
		t.Errorf("%+v, %q", s, problem)
	}
}

func TestPackedValuesAreRedis(t *testing.T) {
	answersAs(t, map[string]string{
		`return tostring(cmsgpack.unpack('\207\255\255\255\255\255\255\255\255'))`:       "-1",
		`return tostring(cmsgpack.unpack('\207\128\0\0\0\0\0\0\0'))`:                     "-9.2233720368548e+18",
		`return tostring(cmsgpack.unpack('\207\127\255\255\255\255\255\255\255'))`:       "9.2233720368548e+18",
		`return tostring(cmsgpack.unpack('\206\255\255\255\255'))`:                       "4294967295",
		`return tostring(cmsgpack.unpack('\211\128\0\0\0\0\0\0\0'))`:                     "-9.2233720368548e+18",
		`return cmsgpack.unpack('\196\1x')`:                                              "-Bad data format in input.",
		`return cmsgpack.unpack('\197\0\1x')`:                                            "-Bad data format in input.",
		`return cmsgpack.unpack('\198\0\0\0\1x')`:                                        "-Bad data format in input.",
		`return cmsgpack.unpack('\193')`:                                                 "-Bad data format in input.",
		`return cmsgpack.unpack('\199\0\0')`:                                             "-Bad data format in input.",
		`return cmsgpack.unpack('\212\0\0')`:                                             "-Bad data format in input.",
		`return cmsgpack.unpack('\217\1x')`:                                              "x",
		`return cmsgpack.unpack('\217')`:                                                 "-Missing bytes in input.",
		`return cmsgpack.unpack('\161')`:                                                 "-Missing bytes in input.",
		"return cmsgpack.unpack('')":                                                     "nil",
		"return cmsgpack.unpack(65)":                                                     "54",
		"return cmsgpack.unpack({})":                                                     "-bad argument #1 to 'unpack' (string expected, got table)",
		"return cmsgpack.unpack()":                                                       "-bad argument #1 to 'unpack' (string expected, got no value)",
		"return cmsgpack.pack()":                                                         "-bad argument #0 to 'pack' (MessagePack pack needs input.)",
		"return cmsgpack.pack(-2^63)":                                                    "\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
		"return cmsgpack.pack(2^63)":                                                     "\xca_\x00\x00\x00",
		"return cmsgpack.pack(2^63 - 1024)":                                              "\xcf\x7f\xff\xff\xff\xff\xff\xfc\x00",
		"return cmsgpack.pack(-2^63 - 2048)":                                             "\xcb\xc3\xe0\x00\x00\x00\x00\x00\x01",
		"return cmsgpack.pack(2^64)":                                                     "\xca_\x80\x00\x00",
		"return cmsgpack.pack(1/0)":                                                      "\xca\x7f\x80\x00\x00",
		"return cmsgpack.pack(-1/0)":                                                     "\xca\xff\x80\x00\x00",
		"return cmsgpack.pack(0.1)":                                                      "\xcb?\xb9\x99\x99\x99\x99\x99\x9a",
		"return cmsgpack.pack(0.5)":                                                      "\xca?\x00\x00\x00",
		"return cmsgpack.pack(-0.5)":                                                     "\xca\xbf\x00\x00\x00",
		"return cmsgpack.pack(-1/1/0)":                                                   "\xca\xff\x80\x00\x00",
		"return cmsgpack.pack(1e300)":                                                    "\xcb~7\xe4<\x88\x00u\x9c",
		"return cmsgpack.pack(127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296)": "\x7f\xcc\x80\xcc\xff\xcd\x01\x00\xcd\xff\xff\xce\x00\x01\x00\x00\xce\xff\xff\xff\xff\xcf\x00\x00\x00\x01\x00\x00\x00\x00",
		"return cmsgpack.pack(-1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649)": "\xff\xe0\xd0\xdf\xd0\x80\xd1\xff\x7f\xd1\x80\x00\xd2\xff\xff\x7f\xff\xd2\x80\x00\x00\x00\xd3\xff\xff\xff\xff\x7f\xff\xff\xff",
		"return cmsgpack.pack({1, 2, 3})":                                           "\x93\x01\x02\x03",
		"return cmsgpack.pack({})":                                                  "\x90",
		"return cmsgpack.pack({[1] = 1, [3] = 3})":                                  "\x82\x01\x01\x03\x03",
		"return cmsgpack.pack({[0] = 1})":                                           "\x81\x00\x01",
		"return cmsgpack.pack({[1.5] = 1})":                                         "\x81\xca?\xc0\x00\x00\x01",
		"return cmsgpack.pack({a = 1})":                                             "\x81\xa1a\x01",
		"return cmsgpack.pack({1, 2, nil, 4})":                                      "\x83\x01\x01\x02\x02\x04\x04",
		"return cmsgpack.pack({[2] = 2, [1] = 1})":                                  "\x92\x01\x02",
		"return cmsgpack.pack(nil, true, false, 'x')":                               "\xc0\xc3\xc2\xa1x",
		"return cmsgpack.pack(string.rep('x', 31)):byte(1)":                         "191",
		"return cmsgpack.pack(string.rep('x', 32)):byte(1)":                         "217",
		"return cmsgpack.pack(string.rep('x', 255)):byte(1)":                        "217",
		"return cmsgpack.pack(string.rep('x', 256)):byte(1)":                        "218",
		"return cmsgpack.pack(string.rep('x', 65536)):byte(1)":                      "219",
		"return cmsgpack.pack(error)":                                               "\xc0",
		"return cmsgpack.pack(cjson.null)":                                          "\xc0",
		"local t = {} t[1] = t return cmsgpack.pack(t)":                             "\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\xc0",
		`return #cmsgpack.unpack('\147\1\2\3')`:                                     "3",
		`return cmsgpack.unpack('\147\1\2')`:                                        "-Missing bytes in input.",
		`return cmsgpack.unpack('\129\1')`:                                          "-Missing bytes in input.",
		`return cmsgpack.unpack('\129\192\1')`:                                      "-table index is nil",
		`return cmsgpack.unpack('\129\161a\1').a`:                                   "1",
		`return select('#', cmsgpack.unpack('\1\2\3'))`:                             "3",
		`return cmsgpack.unpack('\1\193')`:                                          "-Bad data format in input.",
		`return cmsgpack.unpack_one('\1\2\3')`:                                      "1",
		`return select(2, cmsgpack.unpack_one('\1\2\3'))`:                           "1",
		`return cmsgpack.unpack_one('\1\2\3', 2)`:                                   "-1",
		`return cmsgpack.unpack_one('\1\2\3', 1)`:                                   "2",
		`return cmsgpack.unpack_one('\1\2\3', 3)`:                                   "-1",
		`return cmsgpack.unpack_one('\1\2\3', 4)`:                                   "-Start offset 4 greater than input length 3.",
		`return cmsgpack.unpack_one('\1\2\3', -1)`:                                  "-Invalid request to unpack with offset of -1 and limit of 3.",
		`return cmsgpack.unpack_one('\1\2\3', '1')`:                                 "2",
		`return cmsgpack.unpack_limit('\1\2\3', 2)`:                                 "2",
		`return select('#', cmsgpack.unpack_limit('\1\2\3', 2))`:                    "3",
		`return cmsgpack.unpack_limit('\1\2\3', 2, 1)`:                              "-1",
		`return cmsgpack.unpack_limit('\1\2\3', 5)`:                                 "-1",
		`return cmsgpack.unpack_limit('\1\2\3', 0)`:                                 "1",
		`return select('#', cmsgpack.unpack_limit('\1\2\3', 0))`:                    "3",
		`return cmsgpack.unpack_limit('\1\2\3', -1)`:                                "-Invalid request to unpack with offset of 0 and limit of 3.",
		`return cmsgpack.unpack_limit('\1\2\3')`:                                    "-bad argument #2 to 'unpack_limit' (number expected, got no value)",
		`return tostring(cmsgpack.unpack('\202\63\128\0\0'))`:                       "1",
		`return tostring(cmsgpack.unpack('\203\63\240\0\0\0\0\0\0'))`:               "1",
		`return tostring(cmsgpack.unpack('\208\255'))`:                              "-1",
		`return tostring(cmsgpack.unpack('\255'))`:                                  "-1",
		"return struct.pack('>n', 1)":                                               "-bad argument #1 to 'pack' (invalid format option 'n')",
		"return struct.pack('n', 1)":                                                "-bad argument #1 to 'pack' (invalid format option 'n')",
		"return struct.unpack('n', '12345678')":                                     "-bad argument #1 to 'unpack' (invalid format option 'n')",
		"return struct.size('n')":                                                   "0",
		"return struct.size('z')":                                                   "0",
		"return struct.pack('z', 1)":                                                "-bad argument #1 to 'pack' (invalid format option 'z')",
		`return struct.pack('\255', 1)`:                                             "-bad argument #1 to 'pack' (invalid format option '\xff')",
		"return struct.pack('<i4', 1)":                                              "\x01\x00\x00\x00",
		"return struct.pack('>i4', 1)":                                              "\x00\x00\x00\x01",
		"return struct.pack('>i4', -1)":                                             "\xff\xff\xff\xff",
		"return struct.pack('>I4', -1)":                                             "\xff\xff\xff\xff",
		"return struct.pack('>I4', 2^32 + 1)":                                       "\x00\x00\x00\x01",
		"return struct.pack('>I8', 2^63)":                                           "\x80\x00\x00\x00\x00\x00\x00\x00",
		"return struct.pack('>I8', 2^64)":                                           "\x00\x00\x00\x00\x00\x00\x00\x00",
		"return struct.pack('>l', -2^63)":                                           "\x80\x00\x00\x00\x00\x00\x00\x00",
		"return struct.pack('>l', 1.9)":                                             "\x00\x00\x00\x00\x00\x00\x00\x01",
		"return struct.pack('>l', -1.9)":                                            "\xff\xff\xff\xff\xff\xff\xff\xff",
		"return struct.pack('>i16', -1)":                                            "\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff",
		"return struct.pack('>i16', 1)":                                             "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
		"return struct.pack('>I33', 1)":                                             "-integral size 33 is larger than limit of 32",
		"return struct.pack('>I0', 1)":                                              "",
		"return struct.pack('>h', '5')":                                             "\x00\x05",
		"return struct.pack('>h', 'x')":                                             "-bad argument #2 to 'pack' (number expected, got string)",
		"return struct.pack('>h')":                                                  "-bad argument #2 to 'pack' (number expected, got nil)",
		"return struct.pack('>h', 70000)":                                           "\x11p",
		"return struct.pack('>T', 5)":                                               "\x00\x00\x00\x00\x00\x00\x00\x05",
		"return struct.pack('>f', 1.5)":                                             "?\xc0\x00\x00",
		"return struct.pack('>d', 1.5)":                                             "?\xf8\x00\x00\x00\x00\x00\x00",
		"return struct.pack('>d', 'x')":                                             "-bad argument #2 to 'pack' (number expected, got string)",
		"return struct.pack('c3', 'abcdef')":                                        "abc",
		"return struct.pack('c3', 'ab')":                                            "-bad argument #3 to 'pack' (string too short)",
		"return struct.pack('c0', 'abc')":                                           "abc",
		"return struct.pack('c', 'abc')":                                            "a",
		`return struct.pack('s', 'a\0b')`:                                           "a\x00b\x00",
		"return struct.pack('s', nil)":                                              "-bad argument #2 to 'pack' (string expected, got nil)",
		"return struct.pack('>!4 b i4', 1, 2)":                                      "\x01\x00\x00\x00\x00\x00\x00\x02",
		"return struct.pack('>! b d', 1, 2)":                                        "\x01\x00\x00\x00\x00\x00\x00\x00@\x00\x00\x00\x00\x00\x00\x00",
		"return struct.pack('>!3 b', 1)":                                            "-alignment 3 is not a power of 2",
		"return struct.pack('>!0 b', 1)":                                            "-alignment 0 is not a power of 2",
		"return struct.pack('>!16 b i16', 1, 2)":                                    "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02",
		"return struct.pack('>bxb', 1, 2)":                                          "\x01\x00\x02",
		"return struct.pack('> b b', 1, 2)":                                         "\x01\x02",
		"return struct.pack('=b', 1)":                                               "-bad argument #1 to 'pack' (invalid format option '=')",
		"return struct.pack('', 1)":                                                 "",
		"return struct.pack()":                                                      "-bad argument #1 to 'pack' (string expected, got no value)",
		"return struct.pack('i99999999999', 1)":                                     "-integral size overflow",
		"return struct.size('>!4 b i4')":                                            "8",
		"return struct.size('c10 i3 x')":                                            "14",
		"return struct.size('s')":                                                   "-bad argument #1 to 'size' (option 's' has no fixed size)",
		"return struct.size('c0')":                                                  "-bad argument #1 to 'size' (option 'c0' has no fixed size)",
		"return struct.size()":                                                      "-bad argument #1 to 'size' (string expected, got no value)",
		`return struct.unpack('>i4', '\255\255\255\254')`:                           "-2",
		`return struct.unpack('>I4', '\255\255\255\254')`:                           "4294967294",
		`return tostring(struct.unpack('>I8', '\255\255\255\255\255\255\255\255'))`: "1.844674407371e+19",
		`return tostring(struct.unpack('>i8', '\255\255\255\255\255\255\255\255'))`: "-1",
		`return tostring(struct.unpack('>I8', '\128\0\0\0\0\0\0\0'))`:               "9.2233720368548e+18",
		`return tostring(struct.unpack('<I3', '\255\255\255'))`:                     "16777215",
		`return tostring(struct.unpack('<i3', '\255\255\255'))`:                     "-1",
		`return tostring(struct.unpack('>i16', string.rep('\255', 16)))`:            "-1",
		`return tostring(struct.unpack('>I16', string.rep('\0', 15)..'\5'))`:        "5",
		`return select(2, struct.unpack('>i4', '\0\0\0\1xx'))`:                      "5",
		`return struct.unpack('>i4', '\0\0\0')`:                                     "-bad argument #2 to 'unpack' (data string too short)",
		"return struct.unpack('>b', 'abc', 2)":                                      "98",
		"return struct.unpack('>b', 'abc', 4)":                                      "-bad argument #2 to 'unpack' (data string too short)",
		"return struct.unpack('>b', 'abc', 0)":                                      "-bad argument #3 to 'unpack' (offset must be 1 or greater)",
		"return struct.unpack('>b', 'abc', -1)":                                     "-bad argument #2 to 'unpack' (data string too short)",
		"return struct.unpack('>b', 'abc', '2')":                                    "98",
		`return struct.unpack('s', 'ab\0cd')`:                                       "ab",
		"return struct.unpack('s', 'ab')":                                           "-unfinished string in data",
		`return struct.unpack('s', 'ab\0cd', 4)`:                                    "-unfinished string in data",
		`return select(2, struct.unpack('s', 'ab\0cd'))`:                            "4",
		`return struct.unpack('>bc0', '\2abc')`:                                     "ab",
		`return struct.unpack('>bc0', '\9abc')`:                                     "-bad argument #2 to 'unpack' (data string too short)",
		"return struct.unpack('c0', 'abc')":                                         "-format 'c0' needs a previous size",
		`return struct.unpack('sc0', 'a\0bc')`:                                      "-format 'c0' needs a previous size",
		"return struct.unpack('c2', 'abc')":                                         "ab",
		"return struct.unpack('x', 'abc')":                                          "2",
		"return struct.unpack('>b', 5)":                                             "53",
		"return struct.unpack('>b')":                                                "-bad argument #2 to 'unpack' (string expected, got no value)",
		`return struct.unpack('>!4 bi4', '\1\0\0\0\0\0\0\2')`:                       "1",
		"return struct.unpack('>b', 'abc', 5)":                                      "-bad argument #2 to 'unpack' (data string too short)",
		"return struct.unpack('>b', 'abc', -2)":                                     "-bad argument #2 to 'unpack' (data string too short)",
		"return struct.unpack('', 'abc', -2)":                                       "-2",
		"return struct.unpack('', 'abc', 0)":                                        "-bad argument #3 to 'unpack' (offset must be 1 or greater)",
		"return struct.unpack('', 'abc', 9)":                                        "9",
		"return struct.unpack('s', 'abc', 9)":                                       "-bad argument #2 to 'unpack' (data string too short)",
		"return struct.unpack('c0', 'abc', 9)":                                      "-bad argument #2 to 'unpack' (data string too short)",
		"return struct.unpack('x', 'abc', 4)":                                       "-bad argument #2 to 'unpack' (data string too short)",
		"return struct.unpack('>bc0', 'abc', 9)":                                    "-bad argument #2 to 'unpack' (data string too short)",
		"return struct.unpack('?', 'abc')":                                          "-bad argument #1 to 'unpack' (invalid format option '?')",
		"return struct.size('?')":                                                   "-bad argument #1 to 'size' (invalid format option '?')",
		"return struct.size('-')":                                                   "-bad argument #1 to 'size' (invalid format option '-')",
		"return struct.size('1')":                                                   "0",
		"return struct.pack('>hh', 1)":                                              "-bad argument #3 to 'pack' (number expected, got nil)",
		"return struct.pack('>hs', 1)":                                              "-bad argument #3 to 'pack' (string expected, got nil)",
		"return struct.pack('I0I2', 1, 2)":                                          "\x02\x00",
		"return struct.unpack('I0', 'x')":                                           "0",
		"return struct.unpack('i0', 'x')":                                           "0",
		"return struct.size('I0')":                                                  "0",
		`return cmsgpack.unpack_limit('\1\2\3', 0, 1)`:                              "1",
		`return select('#', cmsgpack.unpack_limit('\1\2\3', 0, 1))`:                 "1",
		`return cmsgpack.unpack(string.rep('\1', 10000))`:                           "-stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)",
		`return cmsgpack.unpack_limit(string.rep('\1', 10000), 9000)`:               "-stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)",
		`return select('#', cmsgpack.unpack(string.rep('\1', 7900)))`:               "7900",
		`return cmsgpack.unpack_limit('\1\2\3', 1, 4)`:                              "-Start offset 4 greater than input length 3.",
		"return #cmsgpack.pack(unpack({}, 1, 100))":                                 "100",
		`return cmsgpack.unpack(string.rep('\145', 100))`:                           "-Missing bytes in input.",
		`return cmsgpack.unpack(string.rep('\145', 7000)..'\1')`:                    "-stack overflow (in function mp_decode_to_lua_array)",
		`return cmsgpack.unpack('\220\255\255')`:                                    "-Missing bytes in input.",
		`return cmsgpack.unpack('\129\203\255\248\0\0\0\0\0\0\1')`:                  "-table index is NaN",
		"return struct.pack('>I8', 2^63 + 2048)":                                    "\x80\x00\x00\x00\x00\x00\x08\x00",
		"return struct.pack('>I8', 0/0)":                                            "\x80\x00\x00\x00\x00\x00\x00\x00",
		"return struct.pack('>i8', -1/0)":                                           "\x80\x00\x00\x00\x00\x00\x00\x00",
		"return struct.pack('>i2', -2^40 - 1)":                                      "\xff\xff",
		"return struct.pack('c0', 5)":                                               "5",
		"return struct.pack('s', 5)":                                                "5\x00",
		"return struct.unpack('c0', 5)":                                             "-format 'c0' needs a previous size",
		`return struct.unpack('bc0', '\255abc')`:                                    "-bad argument #2 to 'unpack' (data string too short)",
		`return struct.unpack('fc0', '\0\0\0\64abc')`:                               "ab",
		`return struct.unpack('>!8 bd', '\1\0\0\0\0\0\0\0\63\240\0\0\0\0\0\0')`:     "1",
		`return #cmsgpack.unpack(string.rep('\145', 100)..'\1')`:                    "1",
		`return #cmsgpack.unpack(string.rep('\129\1', 3000)..'\1')`:                 "1",
	})
}

func TestAnErrorOfACommandSaysThatItWasCounted(t *testing.T) {
	answersAs(t, map[string]string{
		"local t = redis.pcall('nosuch') return tostring(t.ignore_error_stats_update)..t.err":                                                  "trueERR Unknown Redis command called from script",
		"local t = redis.pcall('nosuch') local n = 0 for k in pairs(t) do n = n + 1 end return n":                                              "2",
		"return select(2, xpcall(function() redis.call('nosuch') end, function(e) return type(e)..tostring(e.ignore_error_stats_update) end))": "tabletrue",
		"local t = redis.pcall() return tostring(t.ignore_error_stats_update)..t.err":                                                          "nilERR Please specify at least one argument for this redis lib call",
		"local t = redis.pcall('get', {}) return tostring(t.ignore_error_stats_update)..t.err":                                                 "nilERR Lua redis lib command arguments must be strings or integers",
		"return tostring(redis.error_reply('x').ignore_error_stats_update)":                                                                    "nil",
		"return redis.pcall('nosuch')": "-Unknown Redis command called from script",
		"redis.call('nosuch')":         "-Unknown Redis command called from script",
	})
}

func FuzzPatternsAndJSON(f *testing.F) {
	for _, s := range []string{"%f[%a]%b()(.-)%1$", "[^%]a-z]*", `{"a":[1,0x1.8p1,nan(1),"\ud83d\ude00"]}`, "%5.3d%q"} {
		f.Add("a(b)c"+s, s)
	}
	s, _ := New().Load([]byte("local t = {} for i, f in ipairs({string.find, string.match, string.gsub, string.format, cjson.decode, " +
		"cmsgpack.unpack, struct.unpack}) do local _, e = pcall(f, ARGV[1], ARGV[2], '%1') t[i] = tostring(e) end " +
		"t[8] = tostring(select(2, pcall(cjson.decode, ARGV[1]))) t[9] = tostring(select(2, pcall(cmsgpack.unpack, ARGV[1]))) " +
		"t[10] = tostring(select(2, pcall(struct.unpack, ARGV[1], ARGV[2]))) return t"))
	f.Fuzz(func(t *testing.T, text, pattern string) {
		w := resp.Writer{Proto: 2}
		r := Run{Script: s, Host: &host{until: time.Now().Add(time.Second)}, Version: "7.0.15", Args: [][]byte{[]byte(text), []byte(pattern)}}
		r.Do(&w)
		if strings.Contains(string(w.Buf), "runtime error") && !strings.Contains(text+pattern, "runtime error") {
			t.Errorf("%q, %q: %q", text, pattern, w.Buf)
		}
	})
}
