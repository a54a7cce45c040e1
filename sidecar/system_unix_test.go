//go:build unix

package main

import (
	"io/fs"
	"syscall"
)

// A credential is the user of a process, or of a file.
type credential = syscall.Credential

func setUser(attr *syscall.SysProcAttr, user *credential) { attr.Credential = user }

func ownerOf(info fs.FileInfo) credential {
	stat := info.Sys().(*syscall.Stat_t)
	return credential{Uid: stat.Uid, Gid: stat.Gid}
}

var mkfifo = syscall.Mkfifo
