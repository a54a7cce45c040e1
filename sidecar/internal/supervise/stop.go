package supervise

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// A SignalError is the signal that ended a context. Like the cause of [signal.NotifyContext] it is a cancellation.
type SignalError struct{ Signal syscall.Signal }

func (e SignalError) Error() string { return SignalName(e.Signal) + " received" }

// Is reports a cancellation.
func (e SignalError) Is(target error) bool { return target == context.Canceled }

// NotifyContext is a context that SIGTERM or SIGINT ends, with a SignalError as its cause.
func NotifyContext() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		select {
		case s := <-signals:
			cancel(SignalError{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}
