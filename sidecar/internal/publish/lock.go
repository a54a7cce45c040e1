package publish

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/failure"
)

// The lock keeps two sidecars with different sources from replacing each other's key for ever. Sidecars of one source
// share it, such as tasks that follow each other on one host. It ends with the process, even if that is killed.
//
// It is on bytes of a file that a reader cannot lock: a write lock needs a file that is open for writing. A read-only
// mount forbids that to every user, and the mode to every user but the sidecar's. Root can read the file through a
// read-only mount, and take a read lock; no sidecar takes one, so a read lock never stops a sidecar.
//
// Each source has a range of bytes of its own, and each of its sidecars locks one of them.

// LockName is the file that the sidecar locks.
const LockName = "sidecar.lock"

const (
	// lockMode: the file is opened for writing only, and nothing is ever written.
	lockMode fs.FileMode = 0o200

	// A sidecar locks this byte while it searches for others and locks its own.
	entryByte = 0
	entryTime = 500 * time.Millisecond // the longest wait for that byte, which others lock for milliseconds

	firstRange = 4096
	rangeSize  = 4096
	ranges     = 1 << 40
)

// rangeOf is the first byte of a source's range.
func rangeOf(source string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(source)) // which never fails
	return firstRange + int64(1+h.Sum64()%ranges)*rangeSize
}

// A lock is one process's lock of a directory.
type lock struct {
	file   *os.File // nil if nothing is locked
	source string
	at     int64 // the byte
}

// held reports whether the lock is still that of the directory behind root: another volume may have been mounted there.
func (l *lock) held(root *os.Root, source string) bool {
	if l.file == nil || l.source != source {
		return false
	}
	ours, err := l.file.Stat()
	if err != nil {
		return false
	}
	there, err := root.Lstat(LockName)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) // any other error says nothing about the lock
	}
	return os.SameFile(ours, there)
}

func (l *lock) release() {
	if l.file != nil {
		_ = l.file.Close()
	}
	*l = lock{}
}

// Why this process goes on without a lock, although no other sidecar has one.
var (
	errNoLocks  = errors.New("the directory takes no locks")
	errReadLock = errors.New("another program has a read lock on " + LockName)
	// errUnsearched: there are too many read locks to search for a sidecar's lock among them.
	errUnsearched = errors.New("other programs have thousands of read locks on " + LockName)
)

// errTaken: another process has the lock.
var errTaken = errors.New("locked")

// acquire locks the directory for source. Its errors are errTaken, errNoLocks, errReadLock, errUnsearched, and those of
// ctx and the file system.
func (l *lock) acquire(ctx context.Context, root *os.Root, source string) error {
	for range 10 {
		if l.held(root, source) {
			return nil
		}
		l.release()
		if err := l.lockOnce(ctx, root, source); err != nil {
			return err
		}
	} // until the file that was locked is also the one that is there: a sweep may have removed it
	l.release()
	return errTaken
}

func (l *lock) lockOnce(ctx context.Context, root *os.Root, source string) error {
	file, err := openLock(root, os.O_CREATE)
	if err != nil {
		return err
	}
	if err := enter(ctx, file); err != nil && !errors.Is(err, errReadLock) {
		file.Close()
		return err
	}
	defer unlock(file, entryByte)
	at, err := lockIn(file, rangeOf(source))
	if err != nil {
		file.Close()
		return err
	}
	*l = lock{file: file, source: source, at: at}
	return nil
}

// openLock opens the lock file for writing only. Errors that say nothing about the directory are errNoLocks.
func openLock(root *os.Root, create int) (*os.File, error) {
	file, err := root.OpenFile(LockName, os.O_WRONLY|openNonblock|create, lockMode)
	if errors.Is(err, fs.ErrNotExist) && create == 0 {
		return nil, err
	}
	if err != nil { // another user's, or there is no room: the publish itself says what is wrong with a directory
		return nil, errNoLocks
	}
	if info, err := root.Lstat(LockName); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, errNoLocks
	}
	return file, nil
}

// exclusively calls f while no other process does the same in this directory, if it can be locked.
func (l *lock) exclusively(ctx context.Context, f func() error) error {
	if l.file == nil {
		return f()
	}
	if err := enter(ctx, l.file); err != nil && !errors.Is(err, errReadLock) {
		return err
	}
	defer unlock(l.file, entryByte)
	return f()
}

// enter waits until no other sidecar is between its search for others and its own lock.
func enter(ctx context.Context, file *os.File) error {
	for deadline := time.Now().Add(entryTime); ; {
		err := lockByte(file, entryByte)
		if err == nil || !errors.Is(err, errTaken) {
			return err
		}
		if time.Now().After(deadline) {
			return errTaken
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// lockIn locks a free byte of the range that begins at first, unless a sidecar has one in another range.
func lockIn(file *os.File, first int64) (at int64, err error) {
	for _, err := range []error{writeLocked(file, firstRange, first), writeLocked(file, first+rangeSize, 0)} {
		if err != nil && !errors.Is(err, errReadLock) {
			return 0, err
		}
	}
	for range 16 {
		at = first + rand.Int64N(rangeSize)
		if err = lockByte(file, at); !errors.Is(err, errTaken) {
			return at, err
		}
	}
	return at, err
}

// lockByte locks one byte for writing.
func lockByte(file *os.File, at int64) error {
	err := setLock(file, at)
	if !errors.Is(err, errTaken) {
		return err
	}
	if found := writeLocked(file, at, at+1); found != nil {
		return found
	}
	return errTaken // by a lock that has just ended
}

// maxQueries bounds the search for a write lock among read locks, of which a program can take any number.
const maxQueries = 10_000

// writeLocked is errTaken if another process has a write lock on one of the bytes, and errReadLock if it only has read
// locks there. To is 0 for all bytes from from on.
func writeLocked(file *os.File, from, to int64) error {
	queries := maxQueries
	return search(file, from, to, &queries)
}

func search(file *os.File, from, to int64, queries *int) error {
	if *queries--; *queries < 0 {
		return errUnsearched
	}
	found, err := queryLock(file, from, to)
	switch {
	case err != nil:
		return err
	case !found.any:
		return nil
	case found.write:
		return errTaken
	}
	// A read lock, which may hide a write lock before or behind it.
	var before, behind error
	if found.from > from {
		before = search(file, from, found.from, queries)
	}
	if found.to > from && (to == 0 || found.to < to) && !errors.Is(before, errTaken) {
		behind = search(file, found.to, to, queries)
	}
	for _, worst := range []error{errTaken, errUnsearched} {
		if errors.Is(before, worst) || errors.Is(behind, worst) {
			return worst
		}
	}
	return errReadLock
}

// A foundLock is a lock of another process.
type foundLock struct {
	any, write bool
	from, to   int64 // to is 0 for a lock without an end
}

// others reports whether another process, or another holder in this one, has the directory locked. It changes nothing.
func (l *lock) others(root *os.Root) bool { return errors.Is(l.search(root), errTaken) }

// search is nil if no other process has the directory locked; otherwise its errors are those of writeLocked.
func (l *lock) search(root *os.Root) error {
	file := l.file
	if file == nil {
		var err error
		file, err = openLock(root, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer file.Close()
	}
	return writeLocked(file, firstRange, 0)
}

// alive reports whether the sidecar that locked this byte runs.
func (l *lock) alive(at int64) bool {
	return l.file != nil && at != l.at && errors.Is(writeLocked(l.file, at, at+1), errTaken)
}

// Lock locks the directory for a source, or returns an error of class locked while another source is published there.
// It is called before every publish: another volume may have been mounted.
//
// Source is "" while it is not known. Then nothing is locked, and the error says that another sidecar has locked the
// directory.
//
// Where there are no locks, as on some network file systems, a recent status.json of another source counts as a lock.
func (p *Publisher) Lock(ctx context.Context, source string) error {
	root, err := p.open()
	if err != nil {
		return err
	}
	defer root.Close()
	p.problem = nil
	if source == "" {
		if p.lock.others(root) {
			return p.refuse(source)
		}
		p.accept(root)
		return nil
	}
	p.source = source
	first := !p.lock.held(root, source)
	err = p.lock.acquire(ctx, root, source)
	switch {
	case errors.Is(err, errTaken):
		return p.refuse(source)
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		if p.publishedByAnother(root, source) {
			return p.refuse(source)
		}
		p.problem = err
	}
	p.accept(root)
	if first {
		p.removeLeftovers(root)
	}
	return nil
}

// Unlock stops serving the key, and releases the directory for other sources, as the end of the process does.
func (p *Publisher) Unlock() {
	if p.Server != nil {
		p.Server.Close()
	}
	p.lock.release()
}

// Unlocked says why the directory is used without its lock, "" if it has been locked or could be.
func (p *Publisher) Unlocked() string {
	says, advice := p.explainLock(p.problem)
	if says == "" {
		return ""
	}
	return says + "; " + advice
}

func (d Dir) explainLock(problem error) (says, advice string) {
	const apart = "give each sidecar a directory of its own"
	switch {
	case problem == nil:
		return "", ""
	case errors.Is(problem, errReadLock), errors.Is(problem, errUnsearched):
		return problem.Error() + ", so nothing keeps two sidecars with different keys apart in " + d.Path, apart
	default:
		return "the directory cannot be locked on its file system (" + d.Filesystem() + "), or " + LockName + " belongs to another user", apart
	}
}

// freshFor is how long a status.json counts as a lock.
func (p *Publisher) freshFor() time.Duration { return max(15*time.Minute, 3*p.Interval) }

// publishedByAnother reports a recent status.json of another source. It compares times of the file system: this
// machine's clock may be another.
func (p *Publisher) publishedByAnother(root *os.Root, source string) bool {
	status, err := keyfile.ReadStatus(p.Path)
	if err != nil || status.Source == "" || status.Source == source || status.Source == p.wrote {
		return false
	}
	info, err := root.Stat(keyfile.StatusName)
	now, ok := timeOf(root)
	return err == nil && ok && now.Sub(info.ModTime()) < p.freshFor()
}

// timeOf is the time by the file system's clock.
func timeOf(root *os.Root) (time.Time, bool) {
	name := tempName(0)
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return time.Time{}, false
	}
	defer func() {
		file.Close()
		_ = root.Remove(name)
	}()
	info, err := file.Stat()
	if err != nil {
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// LockProblem says why a sidecar cannot lock the directory, and what to do; "" if it can, or if none has tried yet. It
// changes nothing.
func (d Dir) LockProblem() (says, advice string) {
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return "", ""
	}
	defer root.Close()
	if err = new(lock).search(root); errors.Is(err, errTaken) {
		return "", ""
	}
	return d.explainLock(err)
}

// Locked reports whether a sidecar, or another program, has the directory locked. It changes nothing.
func (d Dir) Locked() bool {
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return false
	}
	defer root.Close()
	return new(lock).others(root)
}

// refuse notes and returns that another process has the lock.
func (p *Publisher) refuse(source string) error {
	if p.Server != nil {
		p.Server.Withdraw()
	}
	if p.refusedSince.IsZero() {
		p.refusedSince = time.Now()
	}
	who := "another program"
	if status, err := keyfile.ReadStatus(p.Path); err == nil && status.Source != "" && status.Source != source {
		who = "a sidecar that publishes " + status.Source
	}
	if time.Since(p.refusedSince) > noteAfter {
		p.noteRefusal(source)
	}
	return failure.New(keyfile.ClassLocked, fmt.Errorf("%s has locked %s", who, p.Path),
		"give each sidecar a volume of its own, or a directory of its own with --dir")
}
