package peer

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// magic opens every node-to-node connection. Serf's RPC clients begin with a msgpack map (0x8?), TLS with 0x16, so the
// first byte tells the three apart.
const magic = "HCP1"

const (
	nonceSize  = 32
	maxIDBytes = 255

	handshakeTimeout = 5 * time.Second
)

// ErrSecret is returned by a handshake whose other side could not prove the cluster secret.
var ErrSecret = errors.New("the other side does not have this cluster's secret")

var (
	errClass = errors.New("unknown class of traffic: is that node of another version?")
	// ErrCluster is returned by a handshake of nodes that belong to different clusters, or to the same one before and after
	// its topology was recovered.
	ErrCluster = errors.New("the other node belongs to another cluster")
	// ErrTaken is returned to a dialer that has the id of another node.
	ErrTaken = errors.New("another running node has this node's id (server.node_id)")
	errTwin  = errors.New("another running node has the same id (server.node_id)")
)

// Identity is what a node says about itself in a handshake.
type Identity struct {
	// NodeID is server.node_id.
	NodeID string
	// Incarnation is drawn anew at every process start, so that a restart is told from a lost connection.
	Incarnation uint64

	cluster clusterTag
}

// clusterTag stands for a cluster's id in a handshake. Zero: the node belongs to no cluster yet, or says nothing about it.
type clusterTag [8]byte

func tagOf(cluster string) (t clusterTag) {
	if cluster != "" {
		h := sha256.Sum256([]byte(cluster))
		copy(t[:], h[:])
	}
	return t
}

// foreign reports whether two nodes belong to different clusters.
func (t clusterTag) foreign(u clusterTag) bool {
	return t != u && t != clusterTag{} && u != clusterTag{}
}

// taggedNonce begins a nonce that carries a tag. Nodes from before the tag read all of it as random, and sixteen random
// bytes are enough to make a challenge that was never there before.
const taggedNonce = "HC-clust"

type hello struct {
	class Class
	id    Identity
	nonce [nonceSize]byte
}

// The handshake is a mutual challenge and response (HMAC-SHA256 over both nonces, both identities and the class), so
// neither side ever sends the secret and a recorded handshake can't be replayed:
//
//	dialer   -> magic, class, id, nonce
//	listener -> id, nonce, mac("listener", …)
//	dialer   -> mac("dialer", …)
//	listener -> 0x01, or 0x02 if the dialer has another node's id
func dialHandshake(c net.Conn, class Class, self Identity, secret []byte) (Identity, error) {
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return Identity{}, fmt.Errorf("peer handshake: %w", err)
	}
	mine := newHello(class, self)
	if _, err := c.Write(append([]byte(magic), mine.encode()...)); err != nil {
		return Identity{}, fmt.Errorf("peer handshake: send hello: %w", err)
	}
	theirs, err := readHello(c)
	if err != nil {
		return Identity{}, fmt.Errorf("peer handshake: read hello: %w", err)
	}
	if err := checkMAC(c, secret, "listener", mine, theirs); err != nil {
		return Identity{}, err
	}
	if self.cluster.foreign(theirs.id.cluster) {
		return Identity{}, fmt.Errorf("peer handshake with %q: %w", theirs.id.NodeID, ErrCluster)
	}
	if _, err := c.Write(mac(secret, "dialer", mine, theirs)); err != nil {
		return Identity{}, fmt.Errorf("peer handshake: send proof: %w", err)
	}
	var ok [1]byte
	if _, err := io.ReadFull(c, ok[:]); err != nil {
		return Identity{}, fmt.Errorf("peer handshake: not confirmed: %w", err)
	}
	if ok[0] == idTaken {
		return Identity{}, fmt.Errorf("peer handshake with %q: %w", theirs.id.NodeID, ErrTaken)
	}
	return theirs.id, c.SetDeadline(time.Time{})
}

// The listener's last byte.
const (
	confirmed = 1
	idTaken   = 2
)

// acceptHandshake runs the listener's side; the magic has been read already. taken tells that another process than this
// one has its id.
func acceptHandshake(c net.Conn, self Identity, secret []byte, taken func(Identity) bool) (Class, Identity, error) {
	theirs, err := readHello(c)
	if err != nil {
		return 0, Identity{}, fmt.Errorf("peer handshake: read hello: %w", err)
	}
	if theirs.class < Control || theirs.class > Bus {
		return 0, Identity{}, fmt.Errorf("peer handshake: %w", errClass)
	}
	mine := newHello(theirs.class, self)
	if _, err := c.Write(append(mine.encode(), mac(secret, "listener", theirs, mine)...)); err != nil {
		return 0, Identity{}, fmt.Errorf("peer handshake: send hello: %w", err)
	}
	if err := checkMAC(c, secret, "dialer", theirs, mine); err != nil {
		return 0, Identity{}, err
	}
	if theirs.id.NodeID == self.NodeID && theirs.id.Incarnation != self.Incarnation || taken(theirs.id) {
		_, _ = c.Write([]byte{idTaken}) // refused either way; this tells why
		return 0, Identity{}, fmt.Errorf("peer handshake with %q: %w", theirs.id.NodeID, errTwin)
	}
	if self.cluster.foreign(theirs.id.cluster) {
		return 0, Identity{}, fmt.Errorf("peer handshake with %q: %w", theirs.id.NodeID, ErrCluster)
	}
	if _, err := c.Write([]byte{confirmed}); err != nil {
		return 0, Identity{}, fmt.Errorf("peer handshake: confirm: %w", err)
	}
	return theirs.class, theirs.id, c.SetDeadline(time.Time{})
}

func newHello(class Class, id Identity) hello {
	h := hello{class: class, id: id}
	_, _ = rand.Read(h.nonce[:]) // never fails: crypto/rand aborts the process instead
	if id.cluster != (clusterTag{}) {
		copy(h.nonce[copy(h.nonce[:], taggedNonce):], id.cluster[:])
	}
	return h
}

func (h hello) encode() []byte {
	b := []byte{byte(h.class), byte(len(h.id.NodeID))}
	b = append(b, h.id.NodeID...)
	b = binary.BigEndian.AppendUint64(b, h.id.Incarnation)
	return append(b, h.nonce[:]...)
}

func readHello(r io.Reader) (hello, error) {
	var h hello
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return h, err
	}
	h.class = Class(head[0])
	rest := make([]byte, int(head[1])+8+nonceSize)
	if _, err := io.ReadFull(r, rest); err != nil {
		return h, err
	}
	n := int(head[1])
	h.id.NodeID = string(rest[:n])
	h.id.Incarnation = binary.BigEndian.Uint64(rest[n:])
	copy(h.nonce[:], rest[n+8:])
	if tag, ok := bytes.CutPrefix(h.nonce[:], []byte(taggedNonce)); ok {
		copy(h.id.cluster[:], tag)
	}
	return h, nil
}

func mac(secret []byte, side string, dialer, listener hello) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(side))
	m.Write(dialer.encode())
	m.Write(listener.encode())
	return m.Sum(nil)
}

func checkMAC(r io.Reader, secret []byte, side string, dialer, listener hello) error {
	var got [sha256.Size]byte
	if _, err := io.ReadFull(r, got[:]); err != nil {
		return fmt.Errorf("peer handshake: read proof: %w", err)
	}
	if !hmac.Equal(got[:], mac(secret, side, dialer, listener)) {
		return fmt.Errorf("peer handshake with %s: %w", dialer.id.NodeID, ErrSecret)
	}
	return nil
}
