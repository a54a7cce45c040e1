package snowkey

import (
	"context"
	"database/sql/driver"
	"fmt"
	"reflect"

	"github.com/snowflakedb/gosnowflake/v2"
)

// The context keys of gosnowflake's WithQueryIDChan, WithAsyncMode and WithFetchResultByID.
const (
	queryIDChannelKey = gosnowflake.ContextKey("QUERY_ID_CHANNEL")
	asyncModeKey      = gosnowflake.ContextKey("ASYNC_MODE_QUERY")
	fetchByIDKey      = gosnowflake.ContextKey("SF_FETCH_RESULT_BY_ID")
)

// maxAsync bounds the asynchronous statements of a pool that run at the same time. Further ones wait for one
// of them to end before they are sent. Each needs its session until then.
const maxAsync = 256

// isAsync reports whether ctx is a [gosnowflake.WithAsyncMode] one.
func isAsync(ctx context.Context) bool {
	on, _ := ctx.Value(asyncModeKey).(bool)
	return on
}

// withoutAsync is for what waits for its own answer: a ping, and a transaction's BEGIN and COMMIT.
func withoutAsync(ctx context.Context) context.Context {
	if !isAsync(ctx) {
		return ctx
	}
	return context.WithValue(ctx, asyncModeKey, false)
}

// fetchesByID reports whether a query under ctx fetches an earlier result instead of running. The driver does so only for
// Query and a prepared Query, and not for an empty ID.
func fetchesByID(ctx context.Context) bool {
	id, _ := ctx.Value(fetchByIDKey).(string)
	return id != ""
}

// An asyncResult is the result of an asynchronous Exec. The driver's own result is read by one goroutine as
// soon as the statement ends, whether or not the caller asks for it: its session is needed until then.
type asyncResult struct {
	queryID  string
	done     chan struct{}
	affected int64
	insertID int64
	err      error
}

// RowsAffected waits until the statement has ended.
func (r *asyncResult) RowsAffected() (int64, error) {
	<-r.done
	return r.affected, r.err
}

// LastInsertId waits until the statement has ended.
func (r *asyncResult) LastInsertId() (int64, error) {
	<-r.done
	return r.insertID, r.err
}

// GetQueryID implements [gosnowflake.SnowflakeResult].
func (r *asyncResult) GetQueryID() string { return r.queryID }

// GetStatus implements [gosnowflake.SnowflakeResult].
func (r *asyncResult) GetStatus() gosnowflake.QueryStatus {
	select {
	case <-r.done:
	default:
		return gosnowflake.QueryStatusInProgress
	}
	if r.err != nil {
		return gosnowflake.QueryFailed
	}
	return gosnowflake.QueryStatusComplete
}

// execAsync sends an asynchronous Exec. The session of a statement that keeps running is kept until it
// ends, even if the connection leaves the pool.
func (c *conn) execAsync(ctx context.Context, do func(context.Context, *session) (driver.Result, error)) (driver.Result, error) {
	connector := c.connector
	select {
	case connector.asyncSlots <- struct{}{}:
	case <-ctx.Done():
		forwardQueryIDs(ctx).end()
		return nil, fmt.Errorf("snowkey: %d asynchronous statements are running: %w", maxAsync, ctx.Err())
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(connector.loginsCtx, cancel) // Close ends the driver's waiting for the result
	release := func() {
		stop()
		cancel()
		<-connector.asyncSlots
	}
	running := false
	defer func() {
		if !running { // also if the driver panics
			release()
		}
	}()
	result, err := send(ctx, c, false, do)
	if err != nil || !inProgress(result) {
		return result, err
	}
	running = true
	connector.retain()
	s := c.currentSession()
	connector.pool.asyncStarted(s)
	r := &asyncResult{queryID: c.queryID, done: make(chan struct{})}
	// This goroutine ends with the driver's own, for whose result it waits.
	go func() {
		defer release()
		r.affected, r.err = result.RowsAffected()
		r.insertID, _ = result.LastInsertId()
		close(r.done)
		connector.pool.asyncEnded(s)
		connector.release()
	}()
	return r, nil
}

// inProgress reports whether the driver still waits for a result. If Snowflake answers at once, the
// driver returns a nil pointer.
func inProgress(result driver.Result) bool {
	r, ok := result.(gosnowflake.SnowflakeResult)
	if !ok {
		return false
	}
	if v := reflect.ValueOf(r); v.Kind() == reflect.Pointer && v.IsNil() {
		return false
	}
	return r.GetStatus() == gosnowflake.QueryStatusInProgress
}
