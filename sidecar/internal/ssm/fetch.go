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
// passphrase come from one call; keys share calls. While nothing changes no call decrypts. After a change that could not
// be fetched the next call decrypts at once.
//
// One name that AWS refuses fails the whole call. The keys of such a call then get a call each, and those that AWS
// refuses again stay apart from the others until they succeed.
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

// each makes as few calls as possible, and calls take for each key with the answers or the error of its call.
func (r *Reader) each(ctx context.Context, keys []*Key, decrypt bool, take func(k *Key, answers []types.Parameter, err error)) {
	calls := share(keys, decrypt)
	var outage error // every further call would get it, too
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

// share puts the keys into calls. A call has each name once and all names of its keys, but not two versions of one
// parameter. A key that is apart has a call of its own.
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

// ambiguous reports whether two of the names mean one parameter, such as its latest version and a label. An answer does
// not always have the label.
func ambiguous(names []Name) bool {
	for i, n := range names {
		if slices.ContainsFunc(names[:i], func(other Name) bool { return other.parameter() == n.parameter() }) {
			return true
		}
	}
	return false
}

// A refusal is an error about one name, which fails the whole call.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// refuses reports a refusal, in contrast to an error that every call would get. An unknown code counts as a refusal: a
// call for each key costs little, and one bad key must not stop the others.
func refuses(err error, class keyfile.ErrorClass) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && class != keyfile.ClassCredentials && !throttled(api) && !serviceFailed(api)
}
