package snowkey

import (
	"context"
	"sync"

	"github.com/snowflakedb/gosnowflake/v2"
)

// queryIDs forwards query IDs to the channel of a caller who used [gosnowflake.WithQueryIDChan]. The driver
// closes the channel that it is given with the first answer, even if that only says that the session has
// ended; and it does not close it at all if there is no answer. So each attempt has a channel of its own,
// and the caller's is closed exactly once, when the statement ends. A nil queryIDs does nothing.
type queryIDs struct {
	caller   chan<- string // nil if nobody waits for the ID
	ctx      context.Context
	attempts sync.WaitGroup
	over     chan struct{} // closed at the end of an attempt

	id   string // of the statement; "" before there is one
	noID bool   // the last answer had none
}

func callersChannel(ctx context.Context) chan<- string {
	c, _ := ctx.Value(queryIDChannelKey).(chan<- string)
	return c
}

func forwardQueryIDs(ctx context.Context) *queryIDs {
	caller := callersChannel(ctx)
	if caller == nil && !isAsync(ctx) {
		return nil
	}
	return &queryIDs{caller: caller, ctx: ctx}
}

// attempt returns the context for one attempt. Its query ID reaches the caller while the statement runs.
func (q *queryIDs) attempt(ctx context.Context) context.Context {
	if q == nil {
		return ctx
	}
	q.endAttempt()
	ids, over := make(chan string, 1), make(chan struct{})
	q.over, q.noID = over, false
	q.attempts.Go(func() {
		select {
		case id := <-ids:
			q.receive(id)
		case <-over:
			select { // both can be ready
			case id := <-ids:
				q.receive(id)
			default:
			}
		}
	})
	return gosnowflake.WithQueryIDChan(ctx, ids)
}

func (q *queryIDs) receive(id string) {
	q.noID = id == ""
	if q.noID || q.id != "" {
		return
	}
	q.id = id
	q.send(id)
}

// send waits for the caller to take the ID, as the driver does, but not longer than its context. A
// channel that is used for a second statement gets nothing, because the first statement has closed it.
func (q *queryIDs) send(id string) {
	if q.caller == nil {
		return
	}
	defer func() { _ = recover() }() // from a send on a closed channel
	select {
	case q.caller <- id:
	case <-q.ctx.Done():
		select {
		case q.caller <- id:
		default:
		}
	}
}

func (q *queryIDs) endAttempt() {
	if q.over == nil {
		return
	}
	close(q.over)
	q.attempts.Wait()
	q.over = nil
}

// end closes the caller's channel. Like the driver it sends "" for a statement that was answered without an
// ID.
func (q *queryIDs) end() {
	q.endAttempt()
	if q.caller == nil {
		return
	}
	if q.noID && q.id == "" {
		q.send("")
	}
	defer func() { _ = recover() }() // from closing it twice
	close(q.caller)
}
