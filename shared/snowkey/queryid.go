package snowkey

import (
	"context"
	"sync"

	"github.com/snowflakedb/gosnowflake/v2"
)

// queryIDChannel is where gosnowflake.WithQueryIDChan keeps the caller's channel.
const queryIDChannel = gosnowflake.ContextKey("QUERY_ID_CHANNEL")

// queryIDs stands between the driver and the channel on which a caller waits for the query id. The driver
// closes the channel it is given with the first answer, also one that refuses the statement for its
// session; the caller's is closed once, after the attempt that counts. A nil one does nothing: few
// callers ask.
type queryIDs struct {
	to        chan<- string
	attempts  sync.WaitGroup
	over      chan struct{} // closed when the attempt is
	delivered bool
	refused   bool // the last answer had no id
}

func interceptQueryID(ctx context.Context) *queryIDs {
	to, _ := ctx.Value(queryIDChannel).(chan<- string)
	if to == nil {
		return nil
	}
	return &queryIDs{to: to}
}

// attempt gives the context for one attempt, whose query id goes to the caller at once.
func (q *queryIDs) attempt(ctx context.Context) context.Context {
	if q == nil {
		return ctx
	}
	q.end()
	from, over := make(chan string, 1), make(chan struct{})
	q.over, q.refused = over, false
	q.attempts.Go(func() {
		select {
		case id := <-from:
			q.answer(id)
		case <-over:
			select { // both can be ready
			case id := <-from:
				q.answer(id)
			default:
			}
		}
	})
	return gosnowflake.WithQueryIDChan(ctx, from)
}

func (q *queryIDs) answer(id string) {
	if id == "" {
		q.refused = true
		return
	}
	q.to <- id
	close(q.to)
	q.delivered = true
}

// end waits for what the attempt has to say.
func (q *queryIDs) end() {
	if q.over != nil {
		close(q.over)
		q.attempts.Wait()
		q.over = nil
	}
}

// settle ends the last attempt. If the statement was refused for good the caller is told so as by the
// driver: by an empty id.
func (q *queryIDs) settle(forGood bool) {
	if q == nil {
		return
	}
	q.end()
	if forGood && q.refused && !q.delivered {
		q.to <- ""
		close(q.to)
	}
}
