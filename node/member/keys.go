package member

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

const maxKeyringBytes = 64 << 10

// setKeys gives gossip its keys. Keys that were rotated while running are in the
// keyring file and stay in force; a configured key that the file does not know is
// newer than the file, since operators rotate first and then change the
// configuration, so it becomes the one that encrypts.
func setKeys(conf *serf.Config, ml *memberlist.Config, o Options) error {
	var keys [][]byte
	if o.KeyringFile != "" {
		var err error
		if keys, err = readKeyring(o.KeyringFile); err != nil {
			return err
		}
		conf.KeyringFile = o.KeyringFile
	}
	if len(keys) == 0 && o.EncryptKey == nil {
		conf.KeyringFile = ""
		return nil
	}
	primary := o.EncryptKey
	if primary == nil {
		primary = keys[0]
	}
	ring, err := memberlist.NewKeyring(keys, primary)
	if err != nil {
		return err
	}
	if len(keys) > 0 {
		kept, err := memberlist.NewKeyring(keys, keys[0])
		if err != nil {
			return err
		}
		if holdsKey(kept, primary) {
			ring = kept
		}
	}
	ml.Keyring = ring
	ml.GossipVerifyIncoming = true
	ml.GossipVerifyOutgoing = true
	return nil
}

// readKeyring reads Serf's file: a JSON list of base64 keys, the encrypting one first.
func readKeyring(path string) ([][]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKeyringBytes {
		return nil, fmt.Errorf("%s is too large for a keyring", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var encoded []string
	if err := json.Unmarshal(data, &encoded); err != nil {
		return nil, fmt.Errorf("%s is not a keyring: %w", path, err)
	}
	var keys [][]byte
	for _, e := range encoded {
		key, err := base64.StdEncoding.DecodeString(e)
		if err == nil {
			err = memberlist.ValidateKey(key)
		}
		if err != nil {
			return nil, fmt.Errorf("%s is not a keyring: %w", path, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
