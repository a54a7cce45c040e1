//go:build faults

package faults

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
)

var credentialsScenarios = []scenario{
	{
		fault: "the credentials endpoint refuses connections", class: keyfile.ClassCredentials, says: "no AWS credentials",
		within: 10 * time.Second, run: credentialsDown(way{refuse: true}),
	},
	{
		fault: "the credentials endpoint answers garbage", class: keyfile.ClassCredentials, says: "no AWS credentials",
		within: 10 * time.Second, run: credentialsDown(way{garbage: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nnone today"}),
	},
	{
		fault: "the credentials endpoint accepts connections and says nothing", class: keyfile.ClassCredentials, says: "no AWS credentials",
		within: 45 * time.Second, run: credentialsDown(way{silent: true}),
	},
	{
		fault: "credentials expire, and the endpoint has new ones", operator: "nothing: the sidecar renews them in time",
		within: 10 * time.Second, run: credentialsExpire,
	},
	{
		fault: "SSM takes the credentials for expired", class: keyfile.ClassCredentials, says: "ExpiredTokenException",
		within: 10 * time.Second, breaks: func(w *world) func() {
			w.expired.Store(true)
			return func() { w.expired.Store(false) }
		},
	},
}

// asTask has the sidecar take its credentials from the endpoint that ECS gives a task. The SDK asks for others
// five minutes before they expire, so that these hold for three seconds.
func (w *world) asTask() (way *proxy, issued *atomic.Int64) {
	issued = new(atomic.Int64)
	way = newProxy(w.t, serve(w.t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		issued.Add(1)
		_ = json.NewEncoder(rw).Encode(w.ssm.IssueCredentials("app-task", "task", 5*time.Minute+3*time.Second))
	})))
	delete(w.sidecarEnv, "AWS_ACCESS_KEY_ID")
	delete(w.sidecarEnv, "AWS_SECRET_ACCESS_KEY")
	w.sidecarEnv["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://" + way.address + "/credentials"
	return way, issued
}

func credentialsDown(broken way) func(*world, scenario) time.Duration {
	return func(w *world, s scenario) time.Duration {
		endpoint, _ := w.asTask()
		s.breaks = func(w *world) func() {
			endpoint.set(broken)
			// Looks go on for as long as the credentials hold: only then is the next key stored.
			eventually(w.t, "credentials are asked for again", func() bool { return w.sidecar.said(0, "refresh failed") })
			return endpoint.mend
		}
		return outage(w, s)
	}
}

func credentialsExpire(w *world, s scenario) time.Duration {
	_, issued := w.asTask()
	w.begin()
	since := w.sidecar.mark()
	before := issued.Load()
	eventually(w.t, "new credentials are asked for twice", func() bool { return issued.Load() >= before+2 })
	queries := w.consumer.mark()
	w.rotate()
	took := w.published()
	w.adopted(queries)
	w.quiet(since)
	return took
}
