package main

import (
	"context"
	"crypto/rsa"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// A summary is the last line of sidecar rotate, as far as a step checks it.
type summary struct {
	Result      string `json:"result"`
	Version     int64  `json:"version"`
	Fingerprint string `json:"fingerprint"`
	Place       string `json:"place"`
	Error       string `json:"error"`
}

// runRotate runs sidecar rotate with the policy of its example. A refusal ends with an error, and still has a summary.
func (t *trial) runRotate(ctx context.Context, args ...string) (summary, error) {
	out, err := t.sidecar(ctx, rotatePolicy, t.withParameters("rotate", args...)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var s summary
	if parsed := json.Unmarshal([]byte(lines[len(lines)-1]), &s); parsed != nil {
		return s, errors.Join(err, fmt.Errorf("the last line of rotate is no summary: %w", parsed))
	}
	return s, err
}

// unexpected is the error of a run that did not end as it should.
func unexpected(command string, s summary, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return fmt.Errorf("%s ended with %+v", command, s)
}

// grace is long enough for a sidecar with this interval, and for its programs, which log in anew.
func (t *trial) grace() string {
	if t.snowflake.isEmulated() {
		return "--grace=12s"
	}
	return "--grace=45s"
}

// rotate makes a key in the free slot. A session that was opened with the old key stays open meanwhile.
func (t *trial) rotate(ctx context.Context) error {
	old, err := keyfile.Read(filepath.Join(t.taskDir(), keyfile.DER.FileName()))
	if err != nil {
		return err
	}
	db := t.openPool(old.RSA(), t.login(), "")
	defer db.Close()
	session, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer session.Close()

	s, err := t.runRotate(ctx, t.grace())
	if err != nil {
		return err
	}
	if s.Result != "rotated" || s.Fingerprint == t.published {
		return unexpected("rotate", s, nil)
	}
	t.published = s.Fingerprint
	if err := t.waitForQueriesOn(ctx, s.Fingerprint); err != nil {
		return err
	}
	var one string
	queryErr := session.QueryRowContext(ctx, "SELECT CURRENT_VERSION()").Scan(&one)
	if queryErr != nil && snowflakeCode(queryErr) == 0 {
		return fmt.Errorf("a query on a session of the removed key: %w", queryErr)
	}
	t.observe(ctx, "open session", queryErr == nil, "a query on a session of the removed key: %s", codeOrOK(queryErr))
	return t.checkRefused(ctx, old)
}

// openPool is a pool of one session with a key of the trial's, by the driver alone. Role "" is the user's default.
func (t *trial) openPool(key *rsa.PrivateKey, login, role string) *sql.DB {
	config := t.snowflake.config(login)
	config.PrivateKey, config.Role = key, role
	db := sql.OpenDB(gosnowflake.NewConnector(gosnowflake.SnowflakeDriver{}, config))
	db.SetMaxOpenConns(1)
	return db
}

// checkRefused returns an error unless Snowflake refuses the key.
func (t *trial) checkRefused(ctx context.Context, old *keyfile.Key) error {
	db := t.openPool(old.RSA(), t.login(), "")
	defer db.Close()
	err := ping(ctx, db)
	if err == nil {
		return errors.New("the old key still logs in")
	}
	if !slices.Contains(refusals, snowflakeCode(err)) {
		return fmt.Errorf("a login with the old key failed, but Snowflake did not refuse it: %w", err)
	}
	return nil
}

// refusals are Snowflake's codes for a key that it does not accept.
var refusals = []int{390144, 394300, 394301, 394302, 394303, 394304, 394305, 394306, 394307}

// snowflakeCode is the code in Snowflake's answer, 0 in any other error. A proxy's answer has the driver's code.
func snowflakeCode(err error) int {
	if answer := (*gosnowflake.SnowflakeError)(nil); errors.As(err, &answer) {
		return answer.Number
	}
	return 0
}

// rotateWithLabel does what docs/rotation.md says of tasks that read a label.
func (t *trial) rotateWithLabel(ctx context.Context) error {
	label := func() error {
		_, err := t.aws.run(ctx, "ssm", "label-parameter-version", "--name", t.parameter("key"), "--labels", "live")
		return err
	}
	if err := label(); err != nil {
		return err
	}
	before := t.published
	s, err := t.runRotate(ctx, t.grace(), "--no-wait")
	if err != nil || s.Result != "published" {
		return unexpected("rotate --no-wait", s, err)
	}
	t.published = s.Fingerprint
	dir, err := t.mkdir("label")
	if err != nil {
		return err
	}
	if _, err := t.sidecar(ctx, taskPolicy, "once", "--dir="+dir, "--key-parameter="+t.parameter("key:live"),
		"--passphrase-parameter="+t.parameter("passphrase")); err != nil {
		return err
	}
	if err := checkPublished(dir, before); err != nil {
		return err
	}
	if s, err := t.runRotate(ctx, "--finish", "--revoke-old"); err == nil || s.Result != "refused" {
		return fmt.Errorf("a run removed a key that a label leads to: %+v", s)
	}
	if err := label(); err != nil {
		return err
	}
	if s, err = t.runRotate(ctx, "--finish"); err != nil || s.Result != "finished" {
		return unexpected("rotate --finish", s, err)
	}
	_, err = t.aws.run(ctx, "ssm", "unlabel-parameter-version", "--name", t.parameter("key"),
		"--parameter-version", strconv.FormatInt(s.Version, 10), "--labels", "live")
	return err
}

const keyPair = "LIVE"

// moveToKeyPair makes a key in a named key pair: from a slot, or by rotating the key pair.
func (t *trial) moveToKeyPair(ctx context.Context) error {
	s, err := t.runRotate(ctx, t.grace(), "--key-pair="+keyPair)
	if err != nil || s.Result != "rotated" || s.Place != "key pair "+keyPair {
		return unexpected("rotate --key-pair", s, err)
	}
	t.published = s.Fingerprint
	return t.waitForQueriesOn(ctx, s.Fingerprint)
}

// rotateKeyPair rotates the key pair; the old key gets an expiry.
func (t *trial) rotateKeyPair(ctx context.Context) error {
	if err := t.moveToKeyPair(ctx); err != nil {
		return err
	}
	pairs, err := t.keyPairs(ctx)
	if err != nil {
		return err
	}
	rotated := slices.ContainsFunc(pairs, func(p map[string]string) bool { return strings.HasPrefix(p["name"], keyPair+"_ROTATED_") })
	if !rotated {
		return fmt.Errorf("SHOW USER KEY PAIRS has no %s_ROTATED_ after a rotation: %d rows", keyPair, len(pairs))
	}
	return nil
}

func (t *trial) keyPairs(ctx context.Context) ([]map[string]string, error) {
	return rows(ctx, t.admin, "SHOW USER KEY PAIRS FOR USER "+t.object())
}

// codeOrOK has no text of an error, which may name the account.
func codeOrOK(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errorCode(err) != "":
		return errorCode(err)
	case snowflakeCode(err) != 0:
		return strconv.Itoa(snowflakeCode(err))
	}
	return "another error"
}
