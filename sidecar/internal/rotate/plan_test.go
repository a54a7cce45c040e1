package rotate

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// The times of the table. The newest version is an hour old.
var (
	now    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	stored = now.Add(-time.Hour)
)

// slots is a state in which the parameter's versions hold these keys, the newest last, and the slots those.
func slots(first, second string, versions ...string) State {
	s := State{
		Parameter: "/app/key", User: "SVC", Lease: "/app/key.rotation", Now: now,
		Places: []Place{inSlot(snowflake.Slot{Number: 1, Fingerprint: first}), inSlot(snowflake.Slot{Number: 2, Fingerprint: second})},
	}
	for i, key := range versions {
		v := Version{Number: int64(i + 1), Modified: stored.Add(time.Duration(i+1-len(versions)) * 30 * 24 * time.Hour), Key: key}
		if key == "?" {
			v.Key, v.Sealed = "", true
		}
		s.Versions = append(s.Versions, v)
	}
	return s
}

func (s State) with(change func(*State)) State { change(&s); return s }

func (s State) pair(name, key string, expires time.Time) State {
	s.Places = append(s.Places, Place{
		Pair: name, Key: key, Exists: true, Active: true, Expires: expires, Replaced: strings.Contains(name, "_ROTATED_"),
	})
	return s
}

func (s State) label(number int, label string) State {
	s.Versions[number-1].Labels = append(s.Versions[number-1].Labels, label)
	return s
}

func (s State) recorded(made, replaced string, grace time.Duration) State {
	s.Recorded, s.Rotation = true, Rotation{New: made, Old: replaced, GraceSeconds: int64(grace.Seconds())}
	return s
}

var (
	settled    = func() State { return slots("A", "", "A") }
	unfinished = func() State { return slots("A", "B", "A", "B").recorded("B", "A", 2*time.Hour) }
	leftover   = func() State { return slots("A", "B", "A").recorded("B", "A", time.Hour) }
	stranger   = func() State { return slots("A", "X", "A") }
	byHand     = func() State { return slots("A", "B", "A", "B") }
	named      = func() State { return slots("", "", "A").pair("ETL", "A", time.Time{}) }
)

const (
	assign1 = "run: ALTER USER SVC SET RSA_PUBLIC_KEY='PUBLIC_KEY_OF_THE_NEW_KEY'"
	assign2 = "run: ALTER USER SVC SET RSA_PUBLIC_KEY_2='PUBLIC_KEY_OF_THE_NEW_KEY'"
	remove1 = "run: ALTER USER SVC UNSET RSA_PUBLIC_KEY"
	remove2 = "run: ALTER USER SVC UNSET RSA_PUBLIC_KEY_2"
	waits   = "wait until 2026-03-01T13:00:00Z for the tasks to take the new key"
	deletes = "delete /app/key.rotation"
	expires = "Snowflake lets the old key expire; `sidecar rotate --finish --key-pair ETL` with --revoke-old removes it before"
)

func write(n int) string { return fmt.Sprintf("write version %d of /app/key", n) }

// Each row is a case of docs/rotation.md.
func TestPlan_IsWhatTheDocumentSays(t *testing.T) {
	hour := Goal{Grace: time.Hour}
	wait := func(d string) string { return "wait " + d + " for the tasks to take the new key" }
	for _, tc := range []struct {
		sentence string
		state    State
		goal     Goal
		want     []string // the last may be "refuse: " and texts that are in it, apart by |
	}{
		{"A run assigns a new key in the free slot, stores it, waits, and frees the other slot.",
			settled(), hour, []string{assign2, write(2), wait("1h0m0s"), remove1, deletes}},
		{"The next rotation goes the other way.",
			slots("", "B", "A", "B"), hour, []string{assign1, write(3), wait("1h0m0s"), remove2, deletes}},
		{"With --no-wait it ends when the new key is stored.",
			settled(), Goal{Grace: time.Hour, NoWait: true}, []string{assign2, write(2), "the old key stays accepted until `sidecar rotate --finish` removes it"}},
		{"With --finish it makes no key.", settled(), Goal{Grace: time.Hour, Finish: true}, []string{"nothing to finish"}},

		// Unfinished.
		{"An unfinished rotation is completed when its grace period is over.",
			unfinished(), hour.auto(), []string{waits, remove1, deletes}},
		{"The same with --finish.", unfinished(), Goal{GraceAuto: true, Finish: true}, []string{waits, remove1, deletes}},
		{"It is not waited for with --no-wait.",
			unfinished(), Goal{GraceAuto: true, NoWait: true}, []string{"the old key A stays in RSA_PUBLIC_KEY until 2026-03-01T13:00:00Z; `sidecar rotate --finish` removes it then"}},
		{"A shorter --grace does not shorten the grace period that was promised.",
			unfinished(), Goal{Grace: time.Minute, Finish: true},
			[]string{"the rotation has promised that the old key A stays accepted until 2026-03-01T13:00:00Z, which is longer than --grace 1m0s: " +
				"run `sidecar rotate --finish` without --grace, which waits for it, or with --revoke-old, which does not"}},
		{"--revoke-old ends it.", unfinished(), Goal{Grace: time.Minute, Finish: true, RevokeOld: true}, []string{remove1, deletes}},
		{"A longer --grace makes it longer, and is recorded.",
			unfinished(), Goal{Grace: 3 * time.Hour, Finish: true},
			[]string{"record a grace period of 3h0m0s", "wait until 2026-03-01T14:00:00Z for the tasks to take the new key", remove1, deletes}},
		{"A run that made the key waits for its own grace period, also with --revoke-old.",
			unfinished(), Goal{Grace: 2 * time.Hour, RevokeOld: true, made: true}, []string{waits, remove1, deletes}},
		{"After the grace period the old key goes at once.",
			slots("A", "B", "A", "B").recorded("B", "A", time.Minute), Goal{GraceAuto: true, Finish: true}, []string{remove1, deletes}},

		// A leaked key.
		{"--force-new completes what is unfinished, which may have to wait, and then makes a key.",
			unfinished(), Goal{Grace: time.Hour, ForceNew: true, NoWait: true},
			[]string{waits, remove1, deletes, assign1, write(3), "the old key stays accepted until `sidecar rotate --finish` removes it"}},
		{"With --revoke-old it does not wait.",
			unfinished(), Goal{Grace: time.Hour, ForceNew: true, NoWait: true, RevokeOld: true},
			[]string{remove1, deletes, assign1, write(3), "the old key stays accepted until `sidecar rotate --finish` removes it"}},
		{"It makes a key also if the one in use is young.", settled(), Goal{Grace: time.Hour, ForceNew: true},
			[]string{assign2, write(2), wait("1h0m0s"), remove1, deletes}},

		// Interrupted.
		{"A key that an interrupted run made and never stored is replaced.",
			leftover(), hour, []string{assign2, write(2), wait("1h0m0s"), remove1, deletes}},
		{"With --finish it is taken back.", leftover(), Goal{Grace: time.Hour, Finish: true},
			[]string{remove2, deletes, "took back what an interrupted run had made"}},
		{"A run that was interrupted at its very end is over.",
			slots("", "B", "A", "B").recorded("B", "A", time.Hour), hour, []string{deletes, "an earlier run has rotated the key, and was interrupted at its very end"}},
		{"A record that was left long ago does not stand for a rotation.",
			slots("", "B", "A", "B").recorded("B", "A", time.Hour).with(func(s *State) { s.LeaseAge = 720 * time.Hour }), hour,
			[]string{assign1, write(3), wait("1h0m0s"), remove2, deletes}},

		// Somebody else.
		{"A key that no rotation has recorded stays.", stranger(), hour,
			[]string{"refuse: both slots of SVC are in use|the key X|in no version of the parameter|ALTER USER SVC UNSET RSA_PUBLIC_KEY_2"}},
		{"The same with --finish.", stranger(), Goal{Finish: true}, []string{"refuse: both slots"}},
		{"The same with --force-new.", stranger(), Goal{ForceNew: true}, []string{"refuse: both slots"}},
		{"Also if an earlier version of the parameter held it, as after a rotation by hand: another parameter may hold it.",
			byHand(), Goal{Finish: true}, []string{"refuse: both slots|the key A|of version 1|another parameter may hold it|ALTER USER SVC UNSET RSA_PUBLIC_KEY"}},
		{"A key that two users share is not rotated.", settled().with(func(s *State) { s.Sharers = []string{"REPORTING", "ETL"} }), hour,
			[]string{"refuse: also the key of user ETL and user REPORTING|a parameter of its own"}},
		{"It is completed.", unfinished().with(func(s *State) { s.Sharers = []string{"ETL"} }), hour.auto(), []string{waits, remove1, deletes}},
		{"Another run was faster.", slots("", "B", "A", "B"), Goal{Grace: time.Hour, startKey: "A"}, []string{"another run has rotated the key meanwhile"}},
		{"A key that Snowflake refuses is not rotated.", settled().with(func(s *State) { s.Refused = errors.New("it is refused") }), hour,
			[]string{"refuse: it is refused"}},
		{"The key in use must be in a slot.", slots("", "", "A"), hour, []string{"refuse: in neither slot|--key-pair"}},

		// Labels and versions.
		{"A label that leads to the old key keeps it.",
			unfinished().label(1, "prod"), Goal{GraceAuto: true, Finish: true}, []string{waits, "refuse: version 1, which has the label prod, holds the key A|--parameter-version 2 --labels prod"}},
		{"A version with a label that cannot be opened may hold the old key.",
			slots("A", "B", "?", "A", "B").recorded("B", "A", time.Minute).label(1, "prod"), Goal{GraceAuto: true},
			[]string{"refuse: version 1, which has the label prod, cannot be opened"}},
		{"A label that leads to the new key does not matter.", unfinished().label(2, "prod"), Goal{GraceAuto: true, RevokeOld: true}, []string{remove1, deletes}},
		{"A label does not keep a run from making a key in a slot.",
			settled().label(1, "prod"), hour, []string{assign2, write(2), wait("1h0m0s"), "refuse: version 1|--parameter-version 2 --labels prod"}},
		{"A label that leads to the key in use keeps its key pair from being rotated.",
			named().label(1, "prod"), hour.named(), []string{"refuse: ROTATE KEY PAIR gives the key in use an end within 24 hours|label prod|unlabel-parameter-version|another key pair in --key-pair"}},
		{"So does one that leads to a version that cannot be opened.",
			slots("", "", "?", "A").pair("ETL", "A", time.Time{}).label(1, "prod"), hour.named(), []string{"refuse: ROTATE KEY PAIR|cannot be opened"}},

		// Named key pairs.
		{"A named key pair is rotated, and Snowflake expires the old key after a day.",
			named(), hour.named(), []string{"run: ALTER USER SVC ROTATE KEY PAIR ETL PUBLIC_KEY='PUBLIC_KEY_OF_THE_NEW_KEY' EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS=24", write(2), expires}},
		{"Or after the grace period, if that is longer.",
			named(), Goal{KeyPair: "ETL", Grace: 30 * time.Hour}, []string{"run: ALTER USER SVC ROTATE KEY PAIR ETL PUBLIC_KEY='PUBLIC_KEY_OF_THE_NEW_KEY' EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS=30", write(2), expires}},
		{"One that does not exist is added, and the slot is freed after the grace period.",
			settled(), hour.named(), []string{"run: ALTER USER SVC ADD KEY PAIR ETL PUBLIC_KEY='PUBLIC_KEY_OF_THE_NEW_KEY'", write(2), wait("1h0m0s"), remove1, deletes}},
		{"One that held the key is removed after the grace period.",
			slots("", "", "A").pair("OLD", "A", time.Time{}), hour.named(),
			[]string{"run: ALTER USER SVC ADD KEY PAIR ETL PUBLIC_KEY='PUBLIC_KEY_OF_THE_NEW_KEY'", write(2), wait("1h0m0s"), "run: ALTER USER SVC REMOVE KEY PAIR OLD", deletes}},
		{"One whose key was never stored is rotated again, at once, also with --finish.",
			slots("", "", "A").pair("ETL_ROTATED_1", "A", now.Add(time.Hour)).pair("ETL", "B", time.Time{}).recorded("B", "A", time.Hour),
			Goal{KeyPair: "ETL", Finish: true, Grace: time.Hour}, []string{"run: ALTER USER SVC ROTATE KEY PAIR ETL PUBLIC_KEY='PUBLIC_KEY_OF_THE_NEW_KEY' EXPIRE_ROTATED_KEY_PAIR_AFTER_HOURS=0", write(2), expires}},
		{"One that holds another key stays.", slots("A", "", "A").pair("ETL", "X", time.Time{}), hour.named(), []string{"refuse: key pair ETL holds the key X|REMOVE KEY PAIR ETL"}},

		// On a schedule.
		{"With --max-age a key that is younger stays.", settled(), Goal{Grace: time.Hour, MaxAge: 2 * time.Hour}, []string{"the key in use is 1h0m0s old, and is rotated at the age of 2h0m0s"}},
		{"One that is older is rotated.", settled(), Goal{Grace: time.Hour, MaxAge: time.Minute}, []string{assign2, write(2), wait("1h0m0s"), remove1, deletes}},
		{"A version with the same key does not make it younger.",
			slots("A", "", "A", "A"), Goal{Grace: time.Hour, MaxAge: 24 * time.Hour}, []string{assign2, write(3), wait("1h0m0s"), remove1, deletes}},
		{"What is unfinished is completed at any age.", unfinished(), Goal{GraceAuto: true, MaxAge: 720 * time.Hour}, []string{waits, remove1, deletes}},

		// What cannot be rotated.
		{"A managed secret is rotated by Secrets Manager.", settled().with(func(s *State) { s.Managed = true }), hour, []string{"refuse: managed secret"}},
		{"A key that is not encrypted stays.", settled().with(func(s *State) { s.Plain = true }), hour, []string{"refuse: without encryption"}},
	} {
		t.Run(tc.sentence, func(t *testing.T) {
			got := plan(tc.state, tc.goal)
			if len(got.Actions) != len(tc.want) {
				t.Fatalf("%q, want %q", got.Actions, tc.want)
			}
			for i, a := range got.Actions {
				texts, refuses := strings.CutPrefix(tc.want[i], "refuse: ")
				if !refuses && a.String() != tc.want[i] {
					t.Errorf("%d: %q, want %q", i, a, tc.want[i])
				}
				for _, text := range strings.Split(texts, "|") {
					if _, is := a.(Refuse); refuses && (!is || !strings.Contains(a.String(), text)) {
						t.Errorf("%d: %q, want a refusal with %q", i, a, text)
					}
				}
			}
		})
	}
}

func (g Goal) auto() Goal  { g.Grace, g.GraceAuto = 0, true; return g }
func (g Goal) named() Goal { g.KeyPair = "ETL"; return g }

func TestPlan_AutoGrace(t *testing.T) {
	for name, tc := range map[string]struct {
		goal      Goal
		throttled bool
		want      time.Duration
		says      string
	}{
		"on a terminal":                  {Goal{Interval: 5 * time.Minute, Attended: true}, false, 7*time.Minute + 30*time.Second, "if SSM throttles them"},
		"on a schedule":                  {Goal{Interval: 5 * time.Minute}, false, time.Hour, "nobody attends this run"},
		"on a terminal, while throttled": {Goal{Interval: 5 * time.Minute, Attended: true}, true, time.Hour, "SSM throttles this account"},
		"of a fleet with long intervals": {Goal{Interval: time.Hour}, false, 12 * time.Hour, "nobody attends this run"},
	} {
		tc.goal.GraceAuto = true
		p := plan(settled().with(func(s *State) { s.Throttled = tc.throttled }), tc.goal)
		if assign := p.Actions[0].(AssignKey); assign.Grace != tc.want {
			t.Errorf("%s: %v, want %v", name, assign.Grace, tc.want)
		}
		notes := strings.Join(p.Notes, "\n")
		if strings.Count(notes, "grace period") != 1 || !strings.Contains(notes, fmt.Sprintf("grace period (auto) %v", tc.want)) || !strings.Contains(notes, tc.says) {
			t.Errorf("%s: it says %q", name, notes)
		}
	}
}

func TestPlan_Notes(t *testing.T) {
	for name, tc := range map[string]struct {
		state State
		goal  Goal
		says  string
	}{
		"a task that names a version": {settled(), Goal{}, "such as /app/key:1, stay on it and lose their login"},
		"when the old key is removed": {unfinished(), Goal{GraceAuto: true}, "such as /app/key:1, stay on it and lose their login"},
		"a label":                     {settled().label(1, "prod"), Goal{}, "cannot be removed yet: version 1"},
		"an Expiration policy":        {settled().with(func(s *State) { s.Expires = now.Add(time.Hour) }), Goal{}, "AWS deletes /app/key with all its versions at 2026-03-01T13:00:00Z"},
	} {
		if notes := strings.Join(plan(tc.state, tc.goal).Notes, "\n"); !strings.Contains(notes, tc.says) {
			t.Errorf("%s: %q lacks %q", name, notes, tc.says)
		}
	}
}

// Whatever the state and the goal, a plan never removes or ends the key in use before another one is stored.
func TestPlan_NeverRemovesKeyInUse(t *testing.T) {
	for _, s := range []State{settled(), unfinished(), leftover(), stranger(), byHand(), named(), slots("A", "A", "A"), slots("B", "A", "A", "B", "A").recorded("B", "A", 0)} {
		for bits := range 1 << 6 {
			g := Goal{Finish: bits&1 > 0, NoWait: bits&2 > 0, ForceNew: bits&4 > 0, RevokeOld: bits&8 > 0, made: bits&16 > 0}
			if bits&32 > 0 {
				g.KeyPair = "ETL"
			}
			stored := false
			for _, a := range plan(s, g).Actions {
				switch a := a.(type) {
				case StoreKey:
					stored = true
				case RemoveKey:
					if a.Place.Key == s.InUse() && !stored {
						t.Errorf("%+v, %+v: %v", s, g, a)
					}
				}
			}
		}
	}
}
