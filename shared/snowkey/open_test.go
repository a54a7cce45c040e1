package snowkey_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snowflakedb/gosnowflake/v2"

	"github.com/snowkey/snowkey/internal/localsnowflake"
	"github.com/snowkey/snowkey/shared/snowkey"
)

// Open says what Snowflake said, also if ctx ends in the middle of a later login.
func TestOpenSaysWhatSnowflakeSaidWhenALoginIsCutOff(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
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

// Queries will tell, as with sql.Open.
func TestOpenWithSnowflakeUnreachable(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	s.cfg.Port = 1 // nobody listens
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

// A configuration that can never work is an error of Open, as it is of sql.Open.
func TestOpenRefusesAConfigurationThatCannotWork(t *testing.T) {
	s := newSetting(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	db, err := snowkey.Open(ctx, s.path, gosnowflake.Config{User: "ETL"}) // no account
	if err == nil {
		t.Error("no error; then: ", db.PingContext(ctx))
		db.Close()
	}
}
