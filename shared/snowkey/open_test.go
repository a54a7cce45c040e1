package snowkey_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/snowkey"
)

func TestOpen_WaitsForFirstKey(t *testing.T) {
	t.Parallel()
	onEachSnowflake(t, func(t *testing.T, s *fixture) {
		if err := os.Remove(s.path); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := snowkey.Open(ctx, s.path, s.cfg); err == nil || !strings.Contains(err.Error(), s.path) {
			t.Errorf("error %v", err)
		}
		time.AfterFunc(50*time.Millisecond, func() { s.publish(0) })
		s.expectKey(s.open(), 0)
	})
}

func TestOpen_LeavesConfigUnchanged(t *testing.T) {
	onEachSnowflake(t, func(t *testing.T, s *fixture) {
		value := "test"
		s.cfg.Params = map[string]*string{"query_tag": &value}
		db := s.open()
		s.expectKey(db, 0)
		if len(s.cfg.Params) != 1 || s.cfg.PrivateKey != nil {
			t.Errorf("%d params, key %v", len(s.cfg.Params), s.cfg.PrivateKey != nil)
		}
		// A change after Open does not reach the pool.
		delete(s.cfg.Params, "query_tag")
		if _, err := db.ExecContext(t.Context(), "SELECT 1"); err != nil {
			t.Error(err)
		}
	})
}

func TestOpen_WaitsUntilKeyIsAccepted(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	s.snowflake.UnsetPublicKey("ETL", 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := snowkey.Open(ctx, s.path, s.cfg, snowkey.WithEvents(func(e snowkey.Event) {
		if e.Kind == snowkey.KeyRefused {
			cancel()
		}
	}))
	if err == nil || !strings.Contains(err.Error(), "394304") || !strings.Contains(err.Error(), testkey.Key(0).Fingerprint()) {
		t.Errorf("error %v", err)
	}
	time.AfterFunc(100*time.Millisecond, func() { s.assign(1, 0) })
	s.expectKey(s.open(), 0)
}

func TestOpen_DoesNotWaitAfterOtherLoginErrors(t *testing.T) {
	s := newFixture(t)
	s.snowflake.Intercept(func(localsnowflake.Request) *localsnowflake.Fault {
		return &localsnowflake.Fault{Code: 390100, Message: "Incorrect username or password was specified."}
	})
	db := s.open()
	if _, err := query(t.Context(), db); err == nil {
		t.Error("a query ran")
	}
	s.snowflake.Intercept(nil)
	s.expectKey(db, 0)
}

func TestOpen_FailureLeavesNoGoroutine(t *testing.T) {
	s := newFixture(t)
	s.snowflake.UnsetPublicKey("ETL", 1)
	open := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := snowkey.Open(ctx, s.path, s.cfg); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	}
	open()
	before := goleak.IgnoreCurrent()
	open()
	goleak.VerifyNone(t, before, serverSide)
}

// Open returns Snowflake's refusal, also if ctx ends during a later login.
func TestOpen_ReturnsRefusalWhenLoginIsCutOff(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	s.snowflake.UnsetPublicKey("ETL", 1)
	var logins atomic.Int64
	s.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
		if r.Endpoint == localsnowflake.EndpointLogin && logins.Add(1) > 1 {
			return &localsnowflake.Fault{Delay: 5 * time.Second}
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := snowkey.Open(ctx, s.path, s.cfg)
	if err == nil || !strings.Contains(err.Error(), "394304") {
		t.Errorf("error %v", err)
	}
}

// Open succeeds if Snowflake is unreachable, as sql.Open does: queries return the error.
func TestOpen_SnowflakeUnreachable(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	s := newFixture(t)
	s.cfg.Port = 1 // no server listens there
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	began := time.Now()
	db, err := snowkey.Open(ctx, s.path, s.cfg)
	took := time.Since(began)
	if err != nil {
		t.Fatalf("after %v: %v", took, err)
	}
	db.Close()
	if took > 8*time.Second {
		t.Errorf("Open waited %v", took)
	}
}

// Open returns when its context ends, even if Snowflake does not answer.
func TestOpen_FollowsContext(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	s.snowflake.SetLoginLatency(30 * time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := snowkey.Open(ctx, s.path, s.cfg)
	if took := time.Since(began); took > 15*time.Second { // a login takes 30
		t.Errorf("Open returned after %v: %v", took, err)
	}
}
