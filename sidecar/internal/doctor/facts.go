package doctor

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
	"github.com/snowkey/snowkey/sidecar/internal/platform"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

const (
	// Timeout bounds the gathering of all facts.
	Timeout = 25 * time.Second
	// callTimeout bounds each call. A service that answers at all needs far less.
	callTimeout = 5 * time.Second
)

// facts are the input of the checks. They do not change once they are gathered.
type facts struct {
	settings  *config.DoctorConfig
	of        config.Key
	now       time.Time
	here      platform.Platform
	onFargate bool
	aws       awsFacts
	key       keyFacts
	directory directoryFacts
	snowflake snowflakeFacts
}

// gather makes all calls at the same time that do not need each other's answers.
func gather(ctx context.Context, c *config.DoctorConfig, k config.Key, connect Connect) *facts {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	f := &facts{
		settings:  c,
		of:        k,
		now:       time.Now(),
		here:      platform.Here(),
		onFargate: os.Getenv("AWS_EXECUTION_ENV") == "AWS_ECS_FARGATE",
	}
	var group sync.WaitGroup
	group.Go(func() { f.aws = gatherAWS(ctx, k) })
	group.Go(func() { f.directory = gatherDirectory(ctx, publishDir(c, k)) })
	client := connect(k.Snowflake, decrypt.Login{})
	group.Go(func() { f.snowflake = reachSnowflake(ctx, client) })
	group.Wait()
	f.key = readKey(k, &f.aws)
	f.aws.clear()
	if !f.snowflake.asked {
		client = connect(k.Snowflake, f.key.login)
		f.snowflake = reachSnowflake(ctx, client)
	}
	if key := f.bestKey(); key != nil && f.snowflake.asked && f.snowflake.answers() {
		f.snowflake.logIn(ctx, client, key)
	}
	return f
}

// An answer holds the time of a service's answer, by both clocks.
type answer struct {
	sent, came time.Time
	date       time.Time // by the service's clock, cut to the second; zero if it did not say
	err        error
}

// ask times a call that returns the time by the service's clock.
func ask(ctx context.Context, call func(context.Context) (time.Time, error)) answer {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a := answer{sent: time.Now()}
	a.date, a.err = call(ctx)
	a.came = time.Now()
	return a
}

// ahead is how far this machine's clock is ahead of the service's.
func (a answer) ahead() time.Duration {
	here := a.sent.Add(a.came.Sub(a.sent) / 2)
	return here.Sub(a.date.Add(time.Second / 2)) // half of what was cut off
}

// source is where the key comes from, as far as that is known.
func (f *facts) source() ssm.Source {
	switch {
	case f.of.KeyParameter != "":
		return f.aws.key.source
	case f.key.key != nil:
		return ssm.FromSecretKey(f.key.key.Fingerprint())
	default:
		return ssm.Source{}
	}
}
