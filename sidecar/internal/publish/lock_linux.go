package publish

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openNonblock: the open of a pipe in the lock file's place would wait for a reader.
const openNonblock = unix.O_NONBLOCK | unix.O_NOFOLLOW

// Open file description locks belong to the open file, not to the process: they stay when another file of the same
// process is closed, and a query does not report its own.

func setLock(file *os.File, at int64) error { return fcntlLock(file, unix.F_WRLCK, at) }

func unlock(file *os.File, at int64) { _ = fcntlLock(file, unix.F_UNLCK, at) }

func fcntlLock(file *os.File, kind int16, at int64) error {
	err := fcntl(file, unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: 1})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errTaken
	}
	if err != nil {
		return errNoLocks
	}
	return nil
}

// queryLock gives one of the locks that others have on the bytes.
func queryLock(file *os.File, from, to int64) (foundLock, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: from}
	if to != 0 {
		l.Len = to - from
	}
	if err := fcntl(file, unix.F_OFD_GETLK, &l); err != nil {
		return foundLock{}, errNoLocks
	}
	if l.Type == unix.F_UNLCK {
		return foundLock{}, nil
	}
	found := foundLock{any: true, write: l.Type == unix.F_WRLCK, from: l.Start}
	if l.Len != 0 {
		found.to = l.Start + l.Len
	}
	return found, nil
}

func fcntl(file *os.File, command int, l *unix.Flock_t) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	if err := conn.Control(func(fd uintptr) { callErr = unix.FcntlFlock(fd, command, l) }); err != nil {
		return err
	}
	return callErr
}
