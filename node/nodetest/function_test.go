package nodetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hypercache/node/command/golden"
	"hypercache/node/command/golden/oracle"
	"hypercache/node/config"
)

const counters = `#!lua name=counters
local function add(keys, args) return redis.call('INCRBY', keys[1], args[1] or 1) end
redis.register_function('add', add)
redis.register_function{function_name='look', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}}
redis.register_function('nowhere', function(keys, args) return redis.call('INCRBY', args[1], 1) end)`

func libraryOf(name, function, body string) string {
	return fmt.Sprintf("#!lua name=%s\nredis.register_function('%s', function(keys, args) %s end)", name, function, body)
}

func TestLibrariesAreKnownOnEveryNodeAndOutliveAllOfThem(t *testing.T) {
	c := Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patient)
	defer cancel()
	if name, err := c.Nodes()[1].Client().FunctionLoad(ctx, counters).Result(); err != nil || name != "counters" {
		t.Fatalf("FUNCTION LOAD: %q, %v", name, err)
	}
	want := 0
	callAll := func() {
		t.Helper()
		want++
		for i, n := range c.Nodes() {
			for k := range 20 {
				v, err := n.Client().FCall(ctx, "add", []string{fmt.Sprintf("k%d-%d", i, k)}, 1).Int()
				if err != nil || v != want && i < 3 {
					t.Fatalf("FCALL through %s: %d, %v; want %d", n.ID, v, err, want)
				}
				if v, err := n.Client().FCallRo(ctx, "LOOK", []string{fmt.Sprintf("k%d-%d", i, k)}).Int(); err != nil || v != want && i < 3 {
					t.Fatalf("FCALL_RO through %s: %d, %v; want %d", n.ID, v, err, want)
				}
			}
		}
	}
	callAll() // at once: FUNCTION LOAD has waited for all
	for k := range 20 {
		if err := c.Nodes()[k%3].Client().FCall(ctx, "nowhere", nil, fmt.Sprintf("n%d", k)).Err(); err != nil {
			t.Errorf("FCALL without keys: %v", err)
		}
	}
	for _, n := range c.Nodes() {
		n.Stop()
	}
	for _, n := range c.Nodes() {
		n.Start()
	}
	c.AwaitReady()
	callAll()
	late := c.Add()
	late.AwaitReady()
	callAll()
	for _, n := range c.Nodes() {
		list, err := n.Client().FunctionList(ctx, redis.FunctionListQuery{WithCode: true}).Result()
		if err != nil || len(list) != 1 || list[0].Name != "counters" || list[0].Code != counters || len(list[0].Functions) != 3 {
			t.Errorf("FUNCTION LIST through %s: %+v, %v", n.ID, list, err)
		}
	}
	if err := late.Client().FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if v, err := late.Client().FCall(ctx, "add", []string{"k"}).Int(); err != nil || v != 1 {
		t.Errorf("FCALL after FLUSHALL: %d, %v", v, err)
	}
	info, err := late.Client().Info(ctx, "memory").Result()
	if err != nil || !strings.Contains(info, "number_of_functions:3\r\nnumber_of_libraries:1\r\nused_memory_functions:") {
		t.Errorf("INFO memory: %s, %v", info, err)
	}
	if err := late.Client().FunctionDelete(ctx, "counters").Err(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes() {
		if err := n.Client().FCall(ctx, "add", []string{"k"}).Err(); err == nil || err.Error() != "ERR Function not found" {
			t.Errorf("FCALL through %s after FUNCTION DELETE: %v", n.ID, err)
		}
	}
}

func TestOfTwoLibrariesOfOneNameExactlyOneIsLoaded(t *testing.T) {
	c := Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	for round := range 10 {
		var wg sync.WaitGroup
		var errs [2]error
		for i := range errs {
			wg.Go(func() {
				errs[i] = c.Nodes()[i+1].Client().FunctionLoad(ctx, libraryOf(fmt.Sprint("r", round), fmt.Sprintf("f%d", round), fmt.Sprint("return ", i))).Err()
			})
		}
		wg.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = i
			case err == nil, err.Error() != fmt.Sprintf("ERR Library 'r%d' already exists", round):
				t.Fatalf("round %d: %v", round, errs)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody won: %v", round, errs)
		}
		for _, n := range c.Nodes() {
			if v, err := n.Client().FCall(ctx, fmt.Sprintf("f%d", round), []string{"k"}).Int(); err != nil || v != winner {
				t.Fatalf("round %d: %d, %v through %s, want the winner's %d", round, v, err, n.ID, winner)
			}
		}
	}
}

// TestAPipelineOfFunctionCommandsKeepsItsOrder though changes of libraries take their time.
func TestAPipelineOfFunctionCommandsKeepsItsOrder(t *testing.T) {
	c := Start(t, 3, nil)
	for _, n := range c.Nodes() {
		nc, err := n.Dial()
		if err != nil {
			t.Fatal(err)
		}
		conn := oracle.NewConn(nc)
		var want, got []string
		var requests [][][]byte
		for i := range 5 {
			for _, step := range []struct {
				words []string
				want  string
			}{
				{[]string{"FUNCTION", "LOAD", libraryOf("lib", "f", fmt.Sprintf("return %d", i))}, "$3\r\nlib\r\n"},
				{[]string{"FCALL", "f", "1", "a"}, fmt.Sprintf(":%d\r\n", i)},
				{[]string{"FCALL", "f", "1", "b"}, fmt.Sprintf(":%d\r\n", i)},
				{[]string{"FUNCTION", "LIST", "LIBRARYNAME", "none"}, "*0\r\n"},
				{[]string{"FUNCTION", "DELETE", "lib"}, "+OK\r\n"},
				{[]string{"FUNCTION", "LIST"}, "*0\r\n"},
				{[]string{"FCALL", "f", "1", "a"}, "-ERR Function not found\r\n"},
				{[]string{"PING"}, "+PONG\r\n"},
			} {
				var words [][]byte
				for _, w := range step.words {
					words = append(words, []byte(w))
				}
				requests, want = append(requests, words), append(want, step.want)
			}
		}
		replies, err := conn.Pipeline(requests)
		if err != nil {
			t.Fatal(err)
		}
		for _, reply := range replies {
			got = append(got, string(reply))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("through %s:\n got %q\nwant %q", n.ID, got, want)
		}
		conn.Close()
	}
}

func TestSlowFunctionsAreNamedAndKilledByTheirOwnCommand(t *testing.T) {
	c := Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	for _, n := range c.Nodes() {
		if err := n.Client().ConfigSet(ctx, "busy-reply-threshold", "100").Err(); err != nil {
			t.Fatal(err)
		}
	}
	r := c.Nodes()[1].Client()
	if err := r.FunctionLoad(ctx, libraryOf("slow", "spin", "while true do end")).Err(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	slow := c.Nodes()[0].Client()
	go func() { ended <- slow.FCall(ctx, "spin", []string{"{s}a"}, "arg").Err() }() // FUNCTION KILL ends it
	busy := func(help string) {
		t.Helper()
		var err error
		Await(t, func() bool {
			err = r.Get(ctx, "{s}b").Err()
			return err != nil && strings.HasPrefix(err.Error(), "BUSY ")
		}, func() string { return fmt.Sprintf("GET of the function's slot: %v", err) })
		if want := "BUSY Redis is busy running a script. You can only call " + help + " or SHUTDOWN NOSAVE."; err.Error() != want {
			t.Errorf("GET: %v, want %s", err, want)
		}
	}
	busy("FUNCTION KILL")
	running := 0
	for _, n := range c.Nodes() {
		stats, err := n.Client().FunctionStats(ctx).Result()
		if err != nil || len(stats.Engines) != 1 || stats.Engines[0].LibrariesCount != 1 || stats.Engines[0].FunctionsCount != 1 {
			t.Errorf("FUNCTION STATS of %s: %+v, %v", n.ID, stats, err)
		}
		if s, is := stats.RunningScript(); is {
			running++
			if s.Name != "spin" || fmt.Sprint(s.Command) != "[fcall spin 1 {s}a arg]" || s.Duration <= 0 {
				t.Errorf("FUNCTION STATS of %s: %+v", n.ID, s)
			}
		}
	}
	if running != 1 {
		t.Errorf("%d nodes say that they run a function", running)
	}
	if err := c.Nodes()[2].Client().ScriptKill(ctx).Err(); err == nil || !strings.Contains(err.Error(), "BUSY") || !strings.Contains(err.Error(), "FUNCTION KILL") {
		t.Errorf("SCRIPT KILL of a function: %v", err)
	}
	if err := c.Nodes()[2].Client().FunctionKill(ctx).Err(); err != nil {
		t.Errorf("FUNCTION KILL: %v", err)
	}
	if err := <-ended; err == nil || !strings.HasPrefix(err.Error(), "ERR Script killed by user with SCRIPT KILL... script: spin, on @user_function:2.") {
		t.Errorf("the killed function answered %v", err)
	}
	if err := r.FunctionKill(ctx).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOTBUSY") {
		t.Errorf("FUNCTION KILL of nothing: %v", err)
	}
	go func() { ended <- slow.Eval(ctx, "while true do end", []string{"{s}a"}).Err() }() // SCRIPT KILL ends it
	busy("SCRIPT KILL")
	if err := r.FunctionKill(ctx).Err(); err == nil || !strings.Contains(err.Error(), "SCRIPT KILL") {
		t.Errorf("FUNCTION KILL of a script: %v", err)
	}
	if err := r.ScriptKill(ctx).Err(); err != nil {
		t.Errorf("SCRIPT KILL: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the killed script answered without an error")
	}
}

func TestLibrariesCrossOverToRedisAndBack(t *testing.T) {
	c := Start(t, 1, nil)
	nc, err := c.Nodes()[0].Dial()
	if err != nil {
		t.Fatal(err)
	}
	here, there := oracle.NewConn(nc), oracle.Serve(t, t.TempDir()).Client(t)
	defer here.Close()
	do := func(conn *oracle.Conn, args ...string) string {
		t.Helper()
		reply, err := conn.Do(args...)
		if err != nil || reply[0] == '-' {
			t.Fatalf("%.200q: %.300q, %v", args, reply, err)
		}
		return string(reply)
	}
	bulk := func(reply string) string {
		_, text, _ := strings.Cut(reply, "\r\n")
		return strings.TrimSuffix(text, "\r\n")
	}
	binary := "#!lua name=binary\n--\x01\xff\x80\nredis.register_function{function_name='b', callback=function() return 'b\\255' end, description='\\255\\254'}"
	for _, text := range []string{counters, binary, libraryOf("long", "l", "return '"+strings.Repeat("long ", 50000)+"'")} {
		do(here, "FUNCTION", "LOAD", text)
	}
	do(there, "FUNCTION", "RESTORE", bulk(do(here, "FUNCTION", "DUMP")))
	for _, call := range [][]string{{"FCALL", "add", "1", "k", "3"}, {"FCALL_RO", "look", "1", "k"}, {"FCALL", "b", "0"}, {"FCALL", "l", "0"},
		{"FUNCTION", "LIST", "LIBRARYNAME", "binary", "WITHCODE"}} {
		if got, want := do(here, call...), do(there, call...); got != want {
			t.Errorf("%q: %.200q, redis-server says %.200q", call, got, want)
		}
	}
	dump := bulk(do(there, "FUNCTION", "DUMP"))
	do(here, "FUNCTION", "FLUSH")
	do(here, "FUNCTION", "LOAD", libraryOf("counters", "add", "return 'old'"))
	do(here, "FUNCTION", "LOAD", libraryOf("other", "o", "return 'other'"))
	for _, policy := range []string{"APPEND", "REPLACE", "FLUSH"} {
		reply, err := here.Do("FUNCTION", "RESTORE", dump, policy)
		if err != nil || (reply[0] == '-') != (policy == "APPEND") {
			t.Errorf("FUNCTION RESTORE %s: %q, %v", policy, reply, err)
		}
		reply, err = here.Do("FCALL", "o", "0")
		if err != nil || (reply[0] == '-') != (policy == "FLUSH") {
			t.Errorf("FCALL of another library after RESTORE %s: %q, %v", policy, reply, err)
		}
		want := ":4\r\n"
		if policy == "APPEND" {
			want = "$3\r\nold\r\n"
		}
		do(here, "SET", "k", "3")
		if got := do(here, "FCALL", "add", "1", "k"); got != want {
			t.Errorf("FCALL after RESTORE %s: %q, want %q", policy, got, want)
		}
	}
	if n := len(golden.Elements([]byte(do(here, "FUNCTION", "LIST")))); n != 3 {
		t.Errorf("%d libraries, want 3", n)
	}
}

func TestFunctionsSayWhatTheyMayDo(t *testing.T) {
	c := Start(t, 1, func(c *config.Config) { c.Cache.EvictionPolicy = "noeviction" })
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	r := c.Nodes()[0].Client()
	text := "#!lua name=flags\n"
	for name, flags := range map[string]string{"none": "", "allows": "'allow-oom'", "reads": "'no-writes'"} {
		body := "return redis.call('SET', keys[1], 1)"
		if name == "reads" {
			body = "return redis.call('GET', keys[1])"
		}
		text += fmt.Sprintf("redis.register_function{function_name='%s', callback=function(keys) %s end, flags={%s}}\n", name, body, flags)
	}
	if err := errors.Join(r.FunctionLoad(ctx, text).Err(), r.Set(ctx, "k", 1, 0).Err(), r.ConfigSet(ctx, "maxmemory", "1").Err()); err != nil {
		t.Fatal(err)
	}
	if err := r.FCall(ctx, "none", []string{"k"}).Err(); err == nil || !strings.HasPrefix(err.Error(), "OOM allow-oom flag is not set on the script") {
		t.Errorf("a function that may write, without memory: %v", err)
	}
	for _, name := range []string{"allows", "reads"} {
		if err := r.FCall(ctx, name, []string{"k"}).Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.FunctionLoad(ctx, counters).Err(); err == nil || err.Error() != "OOM command not allowed when used memory > 'maxmemory'." {
		t.Errorf("FUNCTION LOAD without memory: %v", err)
	}
	if err := r.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	tx := r.TxPipeline()
	tx.Set(ctx, "k", 1, 0)
	tx.FunctionLoad(ctx, libraryOf("x", "y", ""))
	if _, err := tx.Exec(ctx); err == nil || !strings.Contains(err.Error(), "EXECABORT") {
		t.Errorf("FUNCTION LOAD in a transaction: %v", err)
	}
	tooLarge := libraryOf("large", "l", "return '"+strings.Repeat("x", 1<<20)+"'")
	if err := r.FunctionLoad(ctx, tooLarge).Err(); err == nil || !strings.Contains(err.Error(), "may have 1048576 bytes") {
		t.Errorf("a library that is too large: %v", err)
	}
	for i := range 9 {
		err := r.FunctionLoad(ctx, libraryOf(fmt.Sprint("l", i), fmt.Sprint("l", i), "return '"+strings.Repeat("x", 1<<20-1000)+"'")).Err()
		if i < 8 && err != nil || i == 8 && (err == nil || !strings.Contains(err.Error(), "all libraries together may have 8388608 bytes")) {
			t.Errorf("library %d of nearly 1 MiB: %v", i, err)
		}
	}
}

func TestLibrariesDoNotChangeWithoutAMajority(t *testing.T) {
	c := Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patient)
	defer cancel()
	last := c.Nodes()[2]
	if err := last.Client().FunctionLoad(ctx, counters).Err(); err != nil {
		t.Fatal(err)
	}
	c.Nodes()[0].Stop()
	c.Nodes()[1].Stop()
	var err error
	attempt, refused := 0, ""
	Await(t, func() bool {
		attempt++ // one whose outcome is unknown may be done later
		refused = fmt.Sprint("x", attempt)
		err = last.Client().FunctionLoad(ctx, libraryOf(refused, refused, "")).Err()
		return err != nil && strings.HasPrefix(err.Error(), "CLUSTERDOWN ")
	}, func() string { return fmt.Sprintf("FUNCTION LOAD without a majority: %v", err) })
	if v, err := last.Client().FunctionList(ctx, redis.FunctionListQuery{LibraryNamePattern: "counters"}).Result(); err != nil || len(v) != 1 {
		t.Errorf("FUNCTION LIST: %+v, %v", v, err)
	}
	c.Nodes()[0].Start()
	c.Nodes()[1].Start()
	began := time.Now()
	Await(t, func() bool {
		attempt++
		err = last.Client().FunctionLoad(ctx, libraryOf(fmt.Sprint("x", attempt), fmt.Sprint("x", attempt), "")).Err()
		return err == nil
	}, func() string { return fmt.Sprintf("FUNCTION LOAD never works again: %v", err) })
	if list, err := last.Client().FunctionList(ctx, redis.FunctionListQuery{LibraryNamePattern: refused}).Result(); err != nil || len(list) != 0 {
		t.Errorf("what was refused with CLUSTERDOWN is there: %+v, %v", list, err)
	}
	t.Logf("FUNCTION LOAD again %v after the start", time.Since(began))
}

// TestALoneNodeTakesTheLibrariesThatRedisLeft once, not again after a restart.
func TestALoneNodeTakesTheLibrariesThatRedisLeft(t *testing.T) {
	c := Start(t, 1, pair)
	first := c.Nodes()[0]
	first.Stop()
	dir := first.Config.Persistence.DataDir
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o750)); err != nil {
		t.Fatal(err)
	}
	srv := oracle.Serve(t, dir)
	r := srv.Client(t)
	for _, words := range [][]string{{"SET", "k", "41"}, {"FUNCTION", "LOAD", counters}, {"SAVE"}} {
		if reply, err := r.Do(words...); err != nil || reply[0] == '-' {
			t.Fatalf("%.60q: %s, %v", words, reply, err)
		}
	}
	r.Close()
	srv.Stop()
	first.Start()
	first.AwaitReady()
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	if v, err := first.Client().FCall(ctx, "add", []string{"k"}).Int(); err != nil || v != 42 {
		t.Errorf("FCALL: %d, %v", v, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "hypercache.functions")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of the import: %v", err)
	}
	if err := first.Client().FunctionDelete(ctx, "counters").Err(); err != nil {
		t.Fatal(err)
	}
	first.Stop()
	first.Start()
	first.AwaitReady()
	if list, err := first.Client().FunctionList(ctx, redis.FunctionListQuery{}).Result(); err != nil || len(list) != 0 {
		t.Errorf("what was deleted is back: %+v, %v", list, err)
	}
}
