package member

import (
	"errors"
	"net"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/serf/coordinate"
	"github.com/hashicorp/serf/serf"
)

// The messages of Serf's RPC, version 1: msgpack values in a row, a header and,
// for most commands, a body in each direction. Field names are the wire's.

const rpcVersion = 1

type requestHeader struct {
	Command string
	Seq     uint64
}

type responseHeader struct {
	Seq   uint64
	Error string
}

type (
	handshakeRequest  struct{ Version int32 }
	authRequest       struct{ AuthKey string }
	coordinateRequest struct{ Node string }
	eventRequest      struct {
		Name     string
		Payload  []byte
		Coalesce bool
	}
	forceLeaveRequest struct {
		Node  string
		Prune bool
	}
	joinRequest struct {
		Existing []string
		Replay   bool
	}
	filterRequest struct {
		Tags   map[string]string
		Status string
		Name   string
	}
	keyRequest     struct{ Key string }
	monitorRequest struct{ LogLevel string }
	streamRequest  struct{ Type string }
	stopRequest    struct{ Stop uint64 }
	tagsRequest    struct {
		Tags       map[string]string
		DeleteTags []string
	}
	queryRequest struct {
		FilterNodes []string
		FilterTags  map[string]string
		RequestAck  bool
		RelayFactor uint8
		Timeout     int64 // nanoseconds
		Name        string
		Payload     []byte
	}
	respondRequest struct {
		ID      uint64
		Payload []byte
	}
)

type (
	coordinateResponse struct {
		Coord coordinate.Coordinate
		Ok    bool
	}
	joinResponse    struct{ Num int32 }
	membersResponse struct{ Members []rpcMember }
	keyResponse     struct {
		Messages map[string]string
		Keys     map[string]int
		NumNodes int
		NumErr   int
		NumResp  int
	}
	queryRecord struct {
		Type    string // ack, response or done
		From    string
		Payload []byte
	}
	logRecord       struct{ Log string }
	userEventRecord struct {
		Event    string
		LTime    serf.LamportTime
		Name     string
		Payload  []byte
		Coalesce bool
	}
	queryEventRecord struct {
		Event   string
		ID      uint64
		LTime   serf.LamportTime
		Name    string
		Payload []byte
	}
	memberEventRecord struct {
		Event   string
		Members []rpcMember
	}
)

type rpcMember struct {
	Name        string
	Addr        net.IP
	Port        uint16
	Tags        map[string]string
	Status      string
	ProtocolMin uint8
	ProtocolMax uint8
	ProtocolCur uint8
	DelegateMin uint8
	DelegateMax uint8
	DelegateCur uint8
}

func rpcMembers(list []serf.Member) []rpcMember {
	out := make([]rpcMember, 0, len(list))
	for _, m := range list {
		out = append(out, rpcMember{
			Name: m.Name, Addr: m.Addr, Port: m.Port, Tags: m.Tags, Status: m.Status.String(),
			ProtocolMin: m.ProtocolMin, ProtocolMax: m.ProtocolMax, ProtocolCur: m.ProtocolCur,
			DelegateMin: m.DelegateMin, DelegateMax: m.DelegateMax, DelegateCur: m.DelegateCur,
		})
	}
	return out
}

// Texts that clients compare with.
var (
	errUnsupportedCommand = errors.New("Unsupported command")
	errUnsupportedVersion = errors.New("Unsupported IPC version")
	errSecondHandshake    = errors.New("Handshake already performed")
	errHandshakeRequired  = errors.New("Handshake required")
	errMonitorExists      = errors.New("Monitor already exists")
	errInvalidFilter      = errors.New("Invalid event filter")
	errStreamExists       = errors.New("Stream with given sequence exists")
	errInvalidQueryID     = errors.New("No pending queries matching ID")
	errAuthRequired       = errors.New("Authentication required")
	errInvalidAuthToken   = errors.New("Invalid authentication token")
)

// rpcPreface is how every client begins: a map of two with "Command" first.
const rpcPreface = "\x82\xa7Command"

// IsRPC says whether a connection whose first bytes are p speaks Serf's RPC. It
// needs at most RPCPrefaceLen bytes; with fewer it judges those there are.
func IsRPC(p []byte) bool {
	n := min(len(p), len(rpcPreface))
	return n > 0 && string(p[:n]) == rpcPreface[:n]
}

// RPCPrefaceLen is how many bytes IsRPC looks at.
const RPCPrefaceLen = len(rpcPreface)

func newHandle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.TimeNotBuiltin = true
	h.MaxInitLen = 4096 // what a message claims about its length is not believed
	h.MaxDepth = 16
	return h
}
