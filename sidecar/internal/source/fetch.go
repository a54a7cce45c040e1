package source

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
func (s *SSM) Fetch(ctx context.Context, wanted []Wanted) (fetched []Fetched) {
	secret.Do(func() { fetched = s.fetch(ctx, wanted) })
	return fetched
}

func (s *SSM) fetch(ctx context.Context, wanted []Wanted) []Fetched {
	fetched := make([]Fetched, len(wanted))
	var sealed, open []int // places in wanted
	for i, w := range wanted {
		if w.Known == (Revision{}) || s.keys[w.Key].decryptsAlways() || s.changed[w.Key] {
			open = append(open, i)
		} else {
			sealed = append(sealed, i)
		}
	}
	s.each(ctx, wanted, sealed, false, func(i int, answers []types.Parameter, err error) {
		switch {
		case err != nil:
			fetched[i].Err = err
		case s.keys[wanted[i].Key].revision(answers) != wanted[i].Known:
			s.changed[wanted[i].Key] = true
			open = append(open, i)
		}
	})
	s.each(ctx, wanted, open, true, func(i int, answers []types.Parameter, err error) {
		if err != nil {
			fetched[i].Err, fetched[i].Changed = err, s.changed[wanted[i].Key]
			return
		}
		delete(s.changed, wanted[i].Key)
		if m := s.keys[wanted[i].Key].material(answers); m.Revision == wanted[i].Known {
			m.Clear()
		} else {
			fetched[i].Material = m
		}
	})
	return fetched
}

// each asks for the keys at these places, in as few calls as may be, and hands on for each the answers of
// its call, or why there are none.
func (s *SSM) each(ctx context.Context, wanted []Wanted, places []int, decrypt bool, take func(place int, answers []types.Parameter, err error)) {
	calls := s.calls(wanted, places, decrypt)
	var outage error // no further call would fare better
	for len(calls) > 0 {
		call := calls[0]
		calls = calls[1:]
		keys := make([]stored, len(call))
		for j, i := range call {
			keys[j] = s.keys[wanted[i].Key]
		}
		var answers []types.Parameter
		err := outage
		if err == nil {
			answers, err = s.get(ctx, keys, decrypt)
		}
		refused := errors.As(err, new(refusal))
		if err != nil && !refused {
			outage = err
		}
		if refused && len(call) > 1 {
			for _, i := range call {
				calls = append(calls, []int{i})
			}
			continue
		}
		for j, i := range call {
			if a := (ask{wanted[i].Key, decrypt}); refused {
				s.apart[a] = true
			} else if err == nil {
				delete(s.apart, a)
			}
			if err != nil {
				take(i, nil, err)
			} else {
				take(i, answers, keys[j].missing(answers, s.region))
			}
		}
	}
}

// calls shares out the keys: each name once in a call, all names of a key in one, one parameter's versions
// in several, and a call of its own for each that is kept apart.
func (s *SSM) calls(wanted []Wanted, places []int, decrypt bool) [][]int {
	var shared, single [][]int
	for _, i := range places {
		if s.apart[ask{wanted[i].Key, decrypt}] {
			single = append(single, []int{i})
			continue
		}
		shared = s.place(shared, wanted, i)
	}
	return append(shared, single...)
}

func (s *SSM) place(calls [][]int, wanted []Wanted, i int) [][]int {
	k := s.keys[wanted[i].Key]
	for c, call := range calls {
		keys := []stored{k}
		for _, other := range call {
			keys = append(keys, s.keys[wanted[other].Key])
		}
		if names := namesOf(keys); len(names) <= maxNames && !ambiguous(names) {
			calls[c] = append(call, i)
			return calls
		}
	}
	return append(calls, []int{i})
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
	return ok && class != keyfile.ClassCredentials && !Throttled(api) && !ServiceFailed(api)
}
