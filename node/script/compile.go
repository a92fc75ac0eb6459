package script

import (
	"errors"
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

const (
	chunkName = "user_script"
	// maxDepth is how deep expressions and blocks may nest: the compiler goes down recursively.
	maxDepth = 1000
	// concatName is the global that strings are joined by in place of the operator, which is not bounded and writes numbers
	// in Go's way.
	concatName = "\x00concat"
	// moduloName is the global in place of the operator %, which the interpreter computes in another way than Lua 5.1.
	moduloName = "\x00modulo"
)

func compile(sha, body string) (*Script, string) {
	if len(body) > MaxBody {
		return nil, "ERR The script is too large"
	}
	s := &Script{SHA: sha, Body: body}
	code, problem := s.shebang(body)
	if problem != "" {
		return nil, problem
	}
	proto, err := compileChunk(code, chunkName)
	if err != nil {
		return nil, "ERR Error compiling script (new function): " + err.Error()
	}
	s.proto = proto
	return s, ""
}

// shebang reads the first line, if it is one, and leaves its line end so that lines keep their numbers.
func (s *Script) shebang(body string) (code, problem string) {
	if !strings.HasPrefix(body, "#!") {
		return body, ""
	}
	end := strings.IndexAny(body, "\n\x00")
	if end < 0 || body[end] == 0 {
		return "", "ERR Invalid script shebang"
	}
	words, ok := splitWords(body[:end])
	if !ok {
		return "", "ERR Invalid engine in script shebang"
	}
	if words[0] != "#!lua" {
		return "", "ERR Unexpected engine in script shebang: " + words[0]
	}
	s.Flags.Declared = true
	for _, w := range words[1:] {
		list, ok := strings.CutPrefix(w, "flags=")
		if !ok {
			return "", "ERR Unknown lua shebang option: " + w
		}
		if list == "" {
			continue
		}
		for f := range strings.SplitSeq(list, ",") {
			if !s.Flags.set(f) {
				return "", "ERR Unexpected flag in script shebang: " + f
			}
		}
	}
	return body[end:], ""
}

func (f *Flags) set(name string) bool {
	switch name {
	case "no-writes":
		f.NoWrites = true
	case "allow-oom":
		f.AllowOOM = true
	case "allow-stale":
		f.AllowStale = true
	case "no-cluster":
		f.NoCluster = true
	case "allow-cross-slot-keys":
		f.CrossSlot = true
	default:
		return false
	}
	return true
}

func compileChunk(code, name string) (proto *lua.FunctionProto, err error) {
	defer func() {
		if r := recover(); r != nil { // the parser's and the compiler's way to refuse some inputs
			proto, err = nil, fmt.Errorf("%s:1: %v", name, r)
		}
	}()
	chunk, err := parse.Parse(strings.NewReader(code), name)
	if err != nil {
		return nil, syntaxError(err, name, strings.Count(code, "\n")+1)
	}
	r := rewriter{}
	r.stmts(chunk, 0)
	if r.deep {
		return nil, errors.New(name + ":1: chunk has too many syntax levels")
	}
	proto, err = lua.Compile(chunk, name)
	if err != nil {
		return nil, fmt.Errorf("%s:1: %s", name, strings.TrimSpace(err.Error()))
	}
	return proto, nil
}

// syntaxError puts the parser's message into the form of Lua's.
func syntaxError(err error, name string, lines int) error {
	var p *parse.Error
	if !errors.As(err, &p) {
		return fmt.Errorf("%s:1: %s", name, strings.TrimSpace(err.Error()))
	}
	message := p.Message
	switch message {
	case "unterminated string":
		message = "unfinished string"
	case "syntax error", "parse error":
		message = "unexpected symbol"
	}
	if p.Pos.Line == parse.EOF || p.Token == "" || message == "unfinished string" {
		return fmt.Errorf("%s:%d: %s near '<eof>'", name, lines, message)
	}
	return fmt.Errorf("%s:%d: %s near '%s'", name, p.Pos.Line, message, p.Token)
}

// rewriter replaces a..b and a%b by calls of our own functions, and notes expressions that nest too deep.
type rewriter struct{ deep bool }

func (r *rewriter) stmts(list []ast.Stmt, depth int) {
	if depth++; depth > maxDepth {
		r.deep = true
		return
	}
	for _, s := range list {
		r.stmt(s, depth)
	}
}

func (r *rewriter) stmt(s ast.Stmt, depth int) {
	switch s := s.(type) {
	case *ast.AssignStmt:
		r.exprs(s.Lhs, depth)
		r.exprs(s.Rhs, depth)
	case *ast.LocalAssignStmt:
		r.exprs(s.Exprs, depth)
	case *ast.FuncCallStmt:
		s.Expr = r.expr(s.Expr, depth)
	case *ast.DoBlockStmt:
		r.stmts(s.Stmts, depth)
	case *ast.WhileStmt:
		s.Condition = r.expr(s.Condition, depth)
		r.stmts(s.Stmts, depth)
	case *ast.RepeatStmt:
		s.Condition = r.expr(s.Condition, depth)
		r.stmts(s.Stmts, depth)
	case *ast.IfStmt:
		s.Condition = r.expr(s.Condition, depth)
		r.stmts(s.Then, depth)
		r.stmts(s.Else, depth)
	case *ast.NumberForStmt:
		s.Init, s.Limit = r.expr(s.Init, depth), r.expr(s.Limit, depth)
		if s.Step != nil {
			s.Step = r.expr(s.Step, depth)
		}
		r.stmts(s.Stmts, depth)
	case *ast.GenericForStmt:
		r.exprs(s.Exprs, depth)
		r.stmts(s.Stmts, depth)
	case *ast.FuncDefStmt:
		r.stmts(s.Func.Stmts, depth)
	case *ast.ReturnStmt:
		r.exprs(s.Exprs, depth)
	}
}

func (r *rewriter) exprs(list []ast.Expr, depth int) {
	for i := range list {
		list[i] = r.expr(list[i], depth)
	}
}

func (r *rewriter) expr(e ast.Expr, depth int) ast.Expr {
	if depth++; depth > maxDepth {
		r.deep = true
		return e
	}
	switch e := e.(type) {
	case *ast.AttrGetExpr:
		e.Object, e.Key = r.expr(e.Object, depth), r.expr(e.Key, depth)
	case *ast.TableExpr:
		for _, f := range e.Fields {
			if f.Key != nil {
				f.Key = r.expr(f.Key, depth)
			}
			f.Value = r.expr(f.Value, depth)
		}
	case *ast.FuncCallExpr:
		if e.Func != nil {
			e.Func = r.expr(e.Func, depth)
		}
		if e.Receiver != nil {
			e.Receiver = r.expr(e.Receiver, depth)
		}
		r.exprs(e.Args, depth)
	case *ast.LogicalOpExpr:
		e.Lhs, e.Rhs = r.expr(e.Lhs, depth), r.expr(e.Rhs, depth)
	case *ast.RelationalOpExpr:
		e.Lhs, e.Rhs = r.expr(e.Lhs, depth), r.expr(e.Rhs, depth)
	case *ast.ArithmeticOpExpr:
		e.Lhs, e.Rhs = r.expr(e.Lhs, depth), r.expr(e.Rhs, depth)
		if e.Operator == "%" {
			call := callOf(moduloName, e)
			call.Args = []ast.Expr{single(e.Lhs), single(e.Rhs)}
			return call
		}
	case *ast.UnaryMinusOpExpr:
		e.Expr = r.expr(e.Expr, depth)
	case *ast.UnaryNotOpExpr:
		e.Expr = r.expr(e.Expr, depth)
	case *ast.UnaryLenOpExpr:
		e.Expr = r.expr(e.Expr, depth)
	case *ast.FunctionExpr:
		r.stmts(e.Stmts, depth)
	case *ast.StringConcatOpExpr:
		return r.concat(e, depth)
	}
	return e
}

// concat joins a whole chain a..b..c by one call, as the operator does.
func (r *rewriter) concat(e *ast.StringConcatOpExpr, depth int) ast.Expr {
	call := callOf(concatName, e)
	for at := ast.Expr(e); ; {
		pair, ok := at.(*ast.StringConcatOpExpr)
		if !ok || len(call.Args) >= 200 {
			call.Args = append(call.Args, single(r.expr(at, depth)))
			return call
		}
		call.Args = append(call.Args, single(r.expr(pair.Lhs, depth)))
		at = pair.Rhs
	}
}

// callOf makes a call, still without arguments, that stands in place of an operator.
func callOf(name string, e ast.Expr) *ast.FuncCallExpr {
	call := &ast.FuncCallExpr{Func: &ast.IdentExpr{Value: name}, AdjustRet: true}
	for _, n := range []ast.PositionHolder{call, call.Func} {
		n.SetLine(e.Line())
		n.SetLastLine(e.LastLine())
	}
	return call
}

// single keeps a call that is the last argument from adding all of its results.
func single(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.FuncCallExpr:
		e.AdjustRet = true
	case *ast.Comma3Expr:
		e.AdjustRet = true
	}
	return e
}
