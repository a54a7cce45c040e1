package ssm

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/secret"
)

// maxNames is how many GetParameters takes.
const maxNames = 10

// Fetch gives the material of each wanted key that differs from its known revision. A key and its
// passphrase come from one call; keys share calls. While nothing changes no call decrypts. A change that was seen
// is not looked for again.
//
// One name that AWS refuses fails the whole call. The keys of such a call are asked for one by one, and
// those that fail then too stay apart from the others until they succeed.
func (r *Reader) Fetch(ctx context.Context, wanted []Wanted) (fetched []Fetched) {
	secret.Do(func() { fetched = r.fetch(ctx, wanted) })
	return fetched
}

func (r *Reader) fetch(ctx context.Context, wanted []Wanted) []Fetched {
	known := map[*Key]Revision{}
	var sealed, open []*Key
	for _, w := range wanted {
		known[w.Key] = w.Known
		if w.Known == (Revision{}) || w.Key.decryptsAlways() || w.Key.changed {
			open = append(open, w.Key)
		} else {
			sealed = append(sealed, w.Key)
		}
	}
	results := map[*Key]Fetched{}
	r.each(ctx, sealed, false, func(k *Key, answers []types.Parameter, err error) {
		switch {
		case err != nil:
			results[k] = Fetched{Key: k, Err: err}
		case k.revision(answers, r.region) != known[k]:
			k.changed = true
			open = append(open, k)
		default:
			results[k] = Fetched{Key: k}
		}
	})
	r.each(ctx, open, true, func(k *Key, answers []types.Parameter, err error) {
		if err != nil {
			results[k] = Fetched{Key: k, Err: err, Changed: k.changed}
			return
		}
		k.changed = false
		m := k.material(answers, r.region)
		if m.Revision == known[k] {
			m.Clear()
			m = nil
		}
		results[k] = Fetched{Key: k, Material: m}
	})
	fetched := make([]Fetched, len(wanted))
	for i, w := range wanted {
		fetched[i] = results[w.Key]
	}
	return fetched
}

// each asks for the keys in as few calls as possible, and hands on for each the answers of its call, or why there
// are none.
func (r *Reader) each(ctx context.Context, keys []*Key, decrypt bool, take func(k *Key, answers []types.Parameter, err error)) {
	calls := share(keys, decrypt)
	var outage error // no further call would fare better
	for len(calls) > 0 {
		call := calls[0]
		calls = calls[1:]
		var answers []types.Parameter
		err := outage
		if err == nil {
			answers, err = r.get(ctx, call, decrypt)
		}
		refused := errors.As(err, new(refusal))
		if err != nil && !refused {
			outage = err
		}
		if refused && len(call) > 1 {
			for _, k := range call {
				calls = append(calls, []*Key{k})
			}
			continue
		}
		for _, k := range call {
			if err != nil {
				k.apart[decrypt] = k.apart[decrypt] || refused
				take(k, nil, err)
				continue
			}
			k.apart[decrypt] = false
			r.identify(ctx, k, answers)
			take(k, answers, k.missing(answers, r.region))
		}
	}
}

// share puts the keys into calls: each name once in a call, all names of a key in one, one parameter's versions
// in several, and a call of its own for each that is kept apart.
func share(keys []*Key, decrypt bool) [][]*Key {
	var shared, single [][]*Key
	for _, k := range keys {
		if k.apart[decrypt] {
			single = append(single, []*Key{k})
			continue
		}
		shared = place(shared, k)
	}
	return append(shared, single...)
}

func place(calls [][]*Key, k *Key) [][]*Key {
	for i, call := range calls {
		if names := namesOf(append([]*Key{k}, call...)); len(names) <= maxNames && !ambiguous(names) {
			calls[i] = append(call, k)
			return calls
		}
	}
	return append(calls, []*Key{k})
}

// ambiguous reports whether two of the names mean one parameter, such as its newest version and a label: its
// answers do not always tell which of them was asked for.
func ambiguous(names []Name) bool {
	for i, n := range names {
		if slices.ContainsFunc(names[:i], func(other Name) bool { return other.parameter() == n.parameter() }) {
			return true
		}
	}
	return false
}

// A refusal is what AWS says of one name, and so of everything that is asked in the same call.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// refuses tells such an answer from what AWS says of every call. A code that is not known here is one: asking
// once more for each key costs little, and not asking would hold back the good ones.
func refuses(err error, class keyfile.ErrorClass) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && class != keyfile.ClassCredentials && !throttled(api) && !serviceFailed(api)
}
