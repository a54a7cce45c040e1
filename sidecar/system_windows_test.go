package main

import (
	"errors"
	"io/fs"
	"syscall"
)

type credential struct{ Uid, Gid uint32 }

func setUser(*syscall.SysProcAttr, *credential) {}

func ownerOf(fs.FileInfo) credential { return credential{} }

func mkfifo(string, uint32) error { return errors.ErrUnsupported }
