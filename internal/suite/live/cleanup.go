package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A cleanup undoes one thing, or finds that there is nothing to undo. It is data, so that another process can do it.
type cleanup struct {
	What  string     `json:"what"`
	AWS   [][]string `json:"aws,omitempty"` // calls of the AWS CLI
	Stack string     `json:"stack,omitempty"`
	Keys  string     `json:"keys,omitempty"` // the tag of KMS keys
	SQL   string     `json:"sql,omitempty"`
}

// A cleanupList is a file with what has to be removed. A cleanup is in it before the thing is created, so that a trial
// that is killed leaves nothing that is not listed. It has no secrets.
type cleanupList struct {
	path       string
	AWSProfile string    `json:"aws_profile"`
	Connection string    `json:"snowflake_connection"`
	Where      place     `json:"where"`
	Dir        string    `json:"dir"`
	Processes  []int     `json:"processes"`
	Cleanups   []cleanup `json:"cleanups"`
}

// A place is the pair of accounts that the profile and the connection lead to. Nothing that is listed would be found in
// others.
type place struct {
	AWSAccount, Region, SnowflakeAccount, SnowflakeHost string
}

// cleanupDir is in the repository, where no commit takes it along.
const cleanupDir = ".cache/live"

func newCleanupList(name string, o options, where place) (*cleanupList, error) {
	if err := os.MkdirAll(cleanupDir, 0o700); err != nil {
		return nil, err
	}
	return &cleanupList{path: filepath.Join(cleanupDir, name+".json"), AWSProfile: o.awsProfile, Connection: o.connection, Where: where}, nil
}

func openCleanupList(path string) (*cleanupList, error) {
	l := &cleanupList{path: path}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, l); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// unfinished are the lists of trials that were killed, or that could not remove everything.
func unfinished() []string {
	found, _ := filepath.Glob(filepath.Join(cleanupDir, "*.json"))
	return found
}

// add records how to remove what is about to be created.
func (l *cleanupList) add(c cleanup) error {
	l.Cleanups = append(l.Cleanups, c)
	return l.save()
}

func (l *cleanupList) save() error {
	tmp := l.path + ".new"
	if err := os.WriteFile(tmp, encodeJSON(l), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, l.path)
}

// runTwice is for a trial that was interrupted: what it was just creating may appear only after it was not found.
func (l *cleanupList) runTwice(ctx context.Context, remove func(context.Context, cleanup) error) error {
	_, _ = l.attempt(ctx, remove)
	fmt.Printf("  and once more, in %s, for what was being created\n", appears)
	if err := pause(ctx, appears); err != nil {
		return err
	}
	return l.run(ctx, remove)
}

// run carries out every cleanup, the last thing first, and goes on after errors. Things that could not be removed stay
// in the file.
func (l *cleanupList) run(ctx context.Context, remove func(context.Context, cleanup) error) error {
	left, failed := l.attempt(ctx, remove)
	l.Cleanups = left
	if len(left) > 0 {
		return errors.Join(failed, l.save(), fmt.Errorf("remove the rest with: go run ./internal/suite/live -remove %s", l.path))
	}
	if err := os.Remove(l.path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// attempt carries out every cleanup, the last thing first, and returns those that failed, and why.
func (l *cleanupList) attempt(ctx context.Context, remove func(context.Context, cleanup) error) (left []cleanup, failed error) {
	for _, c := range slices.Backward(l.Cleanups) {
		fmt.Printf("  removing %s\n", c.What)
		if err := removeWithRetry(ctx, c, remove); err != nil {
			left = append(left, c)
			failed = errors.Join(failed, fmt.Errorf("%s is still there: %w", c.What, err))
		}
	}
	slices.Reverse(left)
	return left, failed
}

// Times of cleaning up. AWS counts some things as in use for minutes after what used them is gone: tasks, for one.
var (
	cleanupPause = 5 * time.Second
	inUsePause   = 20 * time.Second
	appears      = 15 * time.Second
)

const (
	cleanupAttempts = 4
	inUseAttempts   = 20
)

func removeWithRetry(ctx context.Context, c cleanup, remove func(context.Context, cleanup) error) error {
	for attempt := 1; ; attempt++ {
		err := remove(ctx, c)
		if err == nil {
			return nil
		}
		attempts, wait := cleanupAttempts, cleanupPause
		if isInUse(err) {
			attempts, wait = inUseAttempts, inUsePause
		}
		if attempt >= attempts || pause(ctx, wait) != nil {
			return err
		}
	}
}

func isInUse(err error) bool {
	code := errorCode(err)
	return strings.HasPrefix(code, "ClusterContains") || code == "DeleteConflict" || code == "ResourceInUseException" || code == "UpdateInProgressException"
}

// pause returns early, with an error, at the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// gone are AWS's codes for a thing that is not there. Snowflake has IF EXISTS.
var gone = []string{
	"ParameterNotFound", "NoSuchEntity", "ResourceNotFoundException", "RepositoryNotFoundException", "ClusterNotFoundException",
}

// isGone takes a name that AWS does not allow for one that it does not have.
func isGone(err error) bool {
	code := errorCode(err)
	return slices.Contains(gone, code) || code == validationError && strings.Contains(err.Error(), "DeleteParameters")
}

// removeUnfinished removes what a trial that was killed has left.
func removeUnfinished(ctx context.Context, path string) error {
	l, err := openCleanupList(path)
	if err != nil {
		return fmt.Errorf("%w; there are: %s", err, strings.Join(unfinished(), " "))
	}
	t, err := identify(ctx, options{awsProfile: l.AWSProfile, connection: l.Connection})
	if err != nil {
		return err
	}
	if where := t.place(); where != l.Where {
		return fmt.Errorf("the profile %s and the connection %s lead to %+v now; what is listed is in %+v", l.AWSProfile, l.Connection, where, l.Where)
	}
	for _, pid := range l.Processes {
		endProcess(ctx, pid, l.Dir)
	}
	t.cleanups = l
	err = l.runTwice(ctx, t.removeOne)
	return errors.Join(err, os.RemoveAll(l.Dir), t.close())
}

// endProcess ends a process that a killed trial has started, if it still is that one: its command has the trial's directory.
func endProcess(ctx context.Context, pid int, dir string) {
	command, err := exec.CommandContext(ctx, "ps", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	if err != nil || dir == "" || !strings.Contains(string(command), dir) {
		return
	}
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}
