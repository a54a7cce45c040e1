package doctor

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/decrypt"
)

const (
	// Within is the time in which everything is gathered.
	Within = 25 * time.Second
	// callWithin bounds each call. What answers at all answers in far less.
	callWithin = 5 * time.Second
)

// facts are what the checks judge. They do not change once they are gathered.
type facts struct {
	settings  *config.Config
	of        config.Key
	now       time.Time
	inTask    bool // of ECS
	onFargate bool
	aws       awsFacts
	key       keyFacts
	directory directoryFacts
	snowflake snowflakeFacts
}

// gather asks everything that does not need another's answer at the same time.
func gather(ctx context.Context, c *config.Config, k config.Key, connect Connect) *facts {
	ctx, cancel := context.WithTimeout(ctx, Within)
	defer cancel()
	f := &facts{
		settings:  c,
		of:        k,
		now:       time.Now(),
		inTask:    os.Getenv("ECS_CONTAINER_METADATA_URI_V4") != "",
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
	if key := f.bestKey(); key != nil && f.snowflake.asked && f.snowflake.host.err == nil {
		f.snowflake.logIn(ctx, client, key)
	}
	return f
}

// An answer is when somebody answered, by both clocks.
type answer struct {
	sent, came time.Time
	date       time.Time // by the other's clock, cut to the second; zero if it did not say
	err        error
}

// ask times a call that gives the other's clock.
func ask(ctx context.Context, call func(context.Context) (time.Time, error)) answer {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	a := answer{sent: time.Now()}
	a.date, a.err = call(ctx)
	a.came = time.Now()
	return a
}

// ahead is how far this machine's clock is ahead of the other's.
func (a answer) ahead() time.Duration {
	here := a.sent.Add(a.came.Sub(a.sent) / 2)
	return here.Sub(a.date.Add(time.Second / 2)) // half of what was cut off
}
