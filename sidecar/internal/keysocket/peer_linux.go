package keysocket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/sidecar/internal/owner"
)

// admit notes who reads, and returns an error if the mode of the key files keeps that user out. The kernel has checked
// the socket's mode already; this also holds if another program changed that mode.
func (s *Server) admit(conn *net.UnixConn, read *Read) error {
	var peer *unix.Ucred
	var groups []uint32
	err := control(conn, func(fd int) (err error) {
		if peer, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return err
		}
		groups, err = peerGroups(fd)
		if errors.Is(err, unix.ENOPROTOOPT) { // a kernel without it
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("its user is not known: %w", err)
	}
	read.UID, read.PID = peer.Uid, peer.Pid
	group := s.group()
	if !mayRead(s.Mode, uint32(os.Getuid()), uint32(group), peer.Uid, append(groups, peer.Gid)) {
		return fmt.Errorf("uid %d may not read the key; run its program with gid %d", peer.Uid, group)
	}
	return nil
}

// mayRead is whether a file of this mode, owner and group can be read by a user with these groups.
func mayRead(mode fs.FileMode, owner, group, uid uint32, groups []uint32) bool {
	switch {
	case uid == 0:
		return true
	case uid == owner:
		return mode&0o400 != 0
	case slices.Contains(groups, group):
		return mode&0o040 != 0
	default:
		return mode&0o004 != 0
	}
}

// peerGroups are the supplementary groups of the process at the other end.
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 32)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			return groups[:size/4], nil
		case unix.ERANGE:
			groups = make([]uint32, size/4)
		default:
			return nil, errno
		}
	}
}

// unread reports whether the reader has still to read something.
func unread(conn *net.UnixConn) bool {
	var pending int
	_ = control(conn, func(fd int) (err error) {
		pending, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	return pending > 0
}

// isOurs reports whether owner, group and mode are those of a key file.
func (s *socket) isOurs(info fs.FileInfo) bool {
	return owner.Has(info, s.server.group()) && info.Mode().Perm() == Mode(s.server.Mode)
}

func control(conn *net.UnixConn, f func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
