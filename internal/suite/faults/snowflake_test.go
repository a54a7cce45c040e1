//go:build faults

package faults

import (
	"time"

	"github.com/snowkey/snowkey/internal/local/localsnowflake"
	"github.com/snowkey/snowkey/shared/keyfile"
)

var snowflakeScenarios = []scenario{
	{
		fault: "Snowflake refuses connections at a new key (`--verify`)", class: keyfile.ClassNetwork, says: "Snowflake was not reached",
		within: 10 * time.Second, prepare: (*fixture).verify, breaks: onTheWayToVerify(way{refuse: true}),
	},
	{
		fault: "Snowflake says nothing at a new key (`--verify`)", class: keyfile.ClassNetwork, says: "Snowflake was not reached",
		within: 45 * time.Second, prepare: (*fixture).verify, breaks: onTheWayToVerify(way{silent: true}),
	},
	{
		fault: "Snowflake resets connections at a new key (`--verify`)", class: keyfile.ClassNetwork, says: "Snowflake was not reached",
		within: 10 * time.Second, prepare: (*fixture).verify, breaks: onTheWayToVerify(way{reset: true}),
	},
	{
		fault: "Snowflake's answer to a new key is cut (`--verify`)", class: keyfile.ClassNetwork, says: "unexpected EOF",
		within: 10 * time.Second, prepare: (*fixture).verify, breaks: onTheWayToVerify(way{cut: 150}),
	},
	{
		fault: "the name server fails for Snowflake at a new key (`--verify`)", class: keyfile.ClassNetwork, says: "server misbehaving",
		within: 10 * time.Second, prepare: verifyByName("verify.test"), breaks: func(f *fixture) func() {
			names.how.Store("verify.test", serverFails)
			f.toVerify.set(way{}) // a connection that is open needs no name
			return func() { names.how.Delete("verify.test") }
		},
	},
	{
		fault: "Snowflake's certificate has expired at a new key (`--verify`)", class: keyfile.ClassOther, says: "certificate has expired",
		within: 10 * time.Second, run: expiredAtVerify,
	},
	{
		fault: "Snowflake's answer to a new key is garbage (`--verify`)", class: keyfile.ClassOther, says: "malformed HTTP",
		within: 10 * time.Second, prepare: (*fixture).verify, breaks: onTheWayToVerify(way{garbage: "\x00\xffnot HTTP\r\n\r\n"}),
	},
	{
		fault: "Snowflake throttles at a new key (`--verify`)", class: keyfile.ClassNetwork, says: "429",
		within: 20 * time.Second, prepare: (*fixture).verify, breaks: func(f *fixture) func() {
			f.snowflake.Intercept(func(r localsnowflake.Request) *localsnowflake.Fault {
				if r.Endpoint == localsnowflake.EndpointStatements {
					return localsnowflake.TooManyRequests()
				}
				return nil
			})
			return func() { f.snowflake.Intercept(nil) }
		},
	},
	{
		fault: "Snowflake takes three seconds for an answer about a new key (`--verify`)", operator: "nothing: the refresh takes longer",
		within: 20 * time.Second, prepare: (*fixture).verify, run: slow(func(f *fixture) *proxy { return f.toVerify }),
	},
	cutOff("Snowflake refuses connections for five seconds", way{refuse: true}),
	cutOff("Snowflake resets connections for five seconds", way{reset: true}),
	cutOff("Snowflake says nothing for five seconds", way{silent: true}),
	slower(),
	cutOff("Snowflake's answers are not HTTP for five seconds", way{garbage: "\x00\xffnot HTTP\r\n\r\n"}),
	answersCut(),
	away("Snowflake throttles for five seconds", func(f *fixture) (breaks, heals func()) {
		return func() {
			f.snowflake.Intercept(func(localsnowflake.Request) *localsnowflake.Fault { return localsnowflake.TooManyRequests() })
		}, func() { f.snowflake.Intercept(nil) }
	}),
	away("the name server fails for Snowflake for five seconds", func(f *fixture) (breaks, heals func()) {
		const name = "snowflake.test"
		resolve(f.t)
		f.consumerEnv["SNOWFLAKE_HOST"] = name
		return func() {
			names.how.Store(name, serverFails)
			f.toSnowflake.set(way{})
		}, func() { names.how.Delete(name) }
	}),
	away("Snowflake's certificate has expired for five seconds", func(f *fixture) (breaks, heals func()) {
		const name = "snowflake-tls.test"
		resolve(f.t)
		address, authority, expired := f.overTLS(name, f.snowflake)
		f.toSnowflake.behind = address
		f.consumerEnv["SNOWFLAKE_HOST"], f.consumerEnv["SNOWFLAKE_PROTOCOL"], f.consumerEnv["SSL_CERT_FILE"] = name, "https", authority
		return func() {
			expired.Store(true)
			f.toSnowflake.set(way{})
		}, func() { expired.Store(false) }
	}),
}

const (
	awayFor = 5 * time.Second
	delay   = 500 * time.Millisecond
)

// cutOff breaks the consumer's way to Snowflake.
func cutOff(fault string, broken way) scenario {
	return away(fault, func(f *fixture) (breaks, heals func()) {
		return func() { f.toSnowflake.set(broken) }, func() { f.toSnowflake.set(way{}) }
	})
}

// slower is a Snowflake that answers, later.
func slower() scenario {
	s := cutOff("Snowflake takes half a second longer for five seconds", way{slow: delay})
	s.answers = 2 * workers * int(awayFor/delay) // a busy machine's five seconds may be more; there would be ten times as many
	return s
}

// answersCut: a statement whose answer is cut may have run, so no program repeats it.
func answersCut() scenario {
	s := cutOff("Snowflake's answers are cut for five seconds", way{cut: 300})
	s.consumer = "queries of these seconds end in `unexpected EOF`, as with any program: they may have run"
	s.queryErrors, s.lost = "unexpected EOF", "nothing lost but those answers"
	return s
}

// away is a Snowflake that the consumer cannot use for a while, with a rotation in the middle of it. Recovery
// is the first answer on the new key.
func away(fault string, prepare func(*fixture) (breaks, heals func())) scenario {
	return scenario{
		fault: fault, consumer: "queries wait; none fails", operator: "nothing: the sidecar makes no call", within: 45 * time.Second,
		run: func(f *fixture, s scenario) time.Duration {
			breaks, heals := prepare(f)
			f.begin()
			since := f.sidecar.Mark()
			breaks()
			f.rotate()
			f.published()
			lasts := f.consumer.Mark()
			time.Sleep(awayFor)
			if n := f.consumer.Count(lasts, "msg=answered"); n > s.answers {
				f.t.Errorf("%d answers while it lasts: nothing is broken", n)
			}
			if s.queryErrors != "" && !f.consumer.Said(0, "query failed") {
				f.t.Error("no query failed: nothing is broken")
			}
			heals()
			queries := f.consumer.Mark()
			took := f.adopted(queries)
			healed := f.consumer.Mark()
			f.queriesGoOn()
			if f.consumer.Said(healed, "query failed") {
				f.t.Error("queries fail although Snowflake answers again")
			}
			f.quiet(since)
			return took
		},
	}
}

// verifyByName has the sidecar find Snowflake by a name.
func verifyByName(name string) func(*fixture) {
	return func(f *fixture) {
		resolve(f.t)
		f.verify()
		f.sidecarEnv["SNOWFLAKE_HOST"] = name
	}
}

func expiredAtVerify(f *fixture, s scenario) time.Duration {
	const name = "verify-tls.test"
	verifyByName(name)(f)
	address, authority, expired := f.overTLS(name, f.snowflake)
	f.toVerify.behind = address
	f.sidecarEnv["SNOWFLAKE_PROTOCOL"], f.sidecarEnv["SSL_CERT_FILE"] = "https", authority
	s.breaks = func(f *fixture) func() {
		expired.Store(true)
		f.toVerify.set(way{})
		return func() { expired.Store(false) }
	}
	return outage(f, s)
}

func onTheWayToVerify(broken way) func(*fixture) func() {
	return func(f *fixture) func() {
		f.toVerify.set(broken)
		return f.toVerify.mend
	}
}
