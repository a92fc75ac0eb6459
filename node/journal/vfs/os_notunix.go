//go:build !unix

package vfs

import (
	"errors"
	"os"
)

func tryLock(*os.File) error { return errors.ErrUnsupported }

func isHeld(error) bool { return false }

func soleName(string) (int64, bool) { return 0, false }
