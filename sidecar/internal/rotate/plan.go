package rotate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/snowkey/snowkey/sidecar/internal/platform"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
)

// A Goal is the purpose of a run.
type Goal struct {
	KeyPair   string        // the named key pair that holds the key; "" for the two slots
	Finish    bool          // only complete what is unfinished
	NoWait    bool          // end rather than wait for the grace period
	ForceNew  bool          // complete what is unfinished, then make a key in any case
	RevokeOld bool          // end the grace period of an earlier run now
	Grace     time.Duration // from the parameter's change to the end of the old key
	GraceAuto bool          // Grace was not chosen: the recorded one, or one that suits what is known
	Interval  time.Duration // of the sidecars that follow
	Attended  bool          // somebody reads what the run says
	MaxAge    time.Duration // make no key if the one in use is younger; 0 to make one in any case

	// What the run has found and done so far.
	startKey   string // the key in use when the run began; "" before
	made       bool   // the run has made its key: only complete
	completing bool   // the run has found a rotation unfinished: only complete
}

// finish is the command that completes a rotation.
func (g Goal) finish() string {
	command := "sidecar rotate --finish"
	if g.KeyPair != "" {
		command += " --key-pair " + snowflake.Argument(g.KeyPair)
	}
	return "`" + command + "`"
}

// onlyCompletes reports whether the run makes no key, or no further one.
func (g Goal) onlyCompletes() bool { return g.Finish || g.made || g.completing }

// A Plan lists the actions of a run. The run does the first one, and then makes another plan from the new state.
type Plan struct {
	Notes   []string // what a person should know of it
	Actions []Action // never empty
}

// An Action is one thing that a run does.
type Action interface{ String() string }

// The actions.
type (
	// Refuse ends the run: somebody has to change something first.
	Refuse struct {
		Why        error
		unrecorded bool // the reason is that nothing is recorded
	}
	// Stop ends the run.
	Stop struct {
		Outcome Outcome
		Why     string
		Failed  bool // the run has not reached its goal
	}
	// Wait ends with the grace period.
	Wait struct {
		Until time.Time // by AWS's clock; zero: For after the new key was stored
		For   time.Duration
		Old   Place
	}
	// AssignKey makes the key, and assigns it in Snowflake. StoreKey follows, under the same lease.
	AssignKey struct {
		Place   Place
		Version int64 // of the key in use
		Hours   int   // until the old key of a rotated key pair expires; 0 for at once, less for Snowflake's own choice
		OldEnds bool  // Snowflake lets the key in use expire
		Grace   time.Duration
		user    string
	}
	// StoreKey writes the parameter's next version.
	StoreKey struct {
		Parameter string
		Version   int64
	}
	// RemoveKey takes a public key out of Snowflake.
	RemoveKey struct {
		Place  Place
		Unused bool // it was never in use
		Last   bool // nothing is left of the rotation then
		user   string
	}
	// RecordGrace makes the grace period of a rotation longer.
	RecordGrace struct{ Grace time.Duration }
	// EndRotation deletes the lease with its record.
	EndRotation struct{ Lease string }
)

func (a Refuse) String() string { return "refuse: " + a.Why.Error() }
func (a Stop) String() string   { return a.Why }

func (a Wait) String() string {
	tasks := platform.Here().Tasks()
	if a.Until.IsZero() {
		return fmt.Sprintf("wait %v for the %s to take the new key", max(0, a.For).Round(time.Second), tasks)
	}
	return fmt.Sprintf("wait until %s for the %s to take the new key", a.Until.UTC().Format(time.RFC3339), tasks)
}

// unmadeKey stands for the public key in the statements of a plan: the key is made when the plan is applied.
const unmadeKey = "PUBLIC_KEY_OF_THE_NEW_KEY"

func (a AssignKey) String() string { return "run: " + a.statement(unmadeKey) }
func (a StoreKey) String() string {
	return fmt.Sprintf("write version %d of %s", a.Version, a.Parameter)
}
func (a RemoveKey) String() string { return "run: " + a.statement() }
func (a RecordGrace) String() string {
	return fmt.Sprintf("record a grace period of %v", a.Grace)
}
func (a EndRotation) String() string { return "delete " + a.Lease }

// rotates reports whether the statement replaces what a key pair holds, which cannot be taken back.
func (a AssignKey) rotates() bool { return a.Place.Pair != "" && a.Place.Exists }

func (a AssignKey) statement(public string) string {
	switch {
	case a.Place.Pair == "":
		return snowflake.SetKey(a.user, a.Place.Slot, public)
	case !a.Place.Exists:
		return snowflake.AddKeyPair(a.user, a.Place.Pair, public)
	}
	return snowflake.RotateKeyPair(a.user, a.Place.Pair, public, a.Hours)
}

func (a RemoveKey) statement() string { return removal(a.user, a.Place) }

func removal(user string, p Place) string {
	if p.Pair != "" {
		return snowflake.RemoveKeyPair(user, p.Pair)
	}
	return snowflake.UnsetKey(user, p.Slot)
}

// same reports whether two actions are equal. A refusal equals no other: errors cannot be compared.
func same(a, b Action) bool {
	if _, refuses := b.(Refuse); refuses {
		return false
	}
	return a == b
}

// statements are the statements that a dry run shows.
func (p Plan) statements() []string {
	var all []string
	for _, a := range p.Actions {
		switch a := a.(type) {
		case AssignKey:
			all = append(all, a.statement(unmadeKey))
		case RemoveKey:
			all = append(all, a.statement())
		}
	}
	return all
}

// A planner makes one plan. It holds what is derived from the state.
type planner struct {
	State
	Goal
	place  Place // of the key in use
	target Place // for the next one
	found  bool  // the key in use has a place
	notes  []string
}

func newPlanner(s State, g Goal) *planner {
	p := &planner{State: s, Goal: g}
	p.place, p.target, p.found = s.current(g.KeyPair)
	return p
}

// plan decides what a run does in this state.
func plan(s State, g Goal) Plan {
	p := newPlanner(s, g)
	actions := p.actions()
	return Plan{Notes: p.notes, Actions: actions}
}

func refuse(format string, args ...any) []Action {
	return []Action{Refuse{Why: fmt.Errorf(format, args...)}}
}

func (p *planner) actions() []Action {
	if p.Refused != nil {
		return []Action{Refuse{Why: p.Refused}}
	}
	if !p.found {
		return p.refuseElsewhere()
	}
	old := p.old()
	there := p.target.Key
	unfinished := len(old) > 0
	unused := !unfinished && there != "" && there != p.InUse()
	switch {
	case unused && (p.Over || !p.Rotation.made(there)):
		return p.refuseUnrecorded()
	case unfinished && p.ForceNew && !p.made:
		return p.completeThenRotate(old)
	case unfinished:
		return p.complete(old)
	case unused && p.onlyCompletes():
		return p.withdraw()
	case p.onlyCompletes():
		return p.stop(Nothing, "nothing to finish")
	case p.ForceNew:
		return p.rotate()
	case p.startKey != "" && p.startKey != p.InUse():
		return []Action{Stop{Outcome: Overtaken, Why: "another run has rotated the key meanwhile"}}
	case unused:
		return p.rotate()
	case p.isOver():
		return p.stop(Finished, "an earlier run has rotated the key, and was interrupted at its very end")
	case p.MaxAge > 0 && p.age() < p.MaxAge:
		return p.stop(Young, fmt.Sprintf("the key in use is %v old, and is rotated at the age of %v", p.age().Round(time.Minute), p.MaxAge))
	}
	return p.rotate()
}

func (p *planner) age() time.Duration { return p.Now.Sub(p.inUseSince()) }

// old gives the places of the key that the recorded rotation has replaced, or of one that it made and that was replaced
// since.
func (p *planner) old() []Place {
	var all []Place
	for _, at := range p.Places {
		if at.Key != "" && at.Key != p.InUse() && p.mayGo(at) {
			all = append(all, at)
		}
	}
	return all
}

func (p *planner) mayGo(at Place) bool {
	switch {
	case at.Replaced: // it expires by itself
		return p.RevokeOld && !p.made && at.Key == p.Rotation.Old && p.tookPlace()
	case p.Over:
		return false
	case at.Key == p.Rotation.Old:
		return p.tookPlace()
	}
	return p.Rotation.made(at.Key) && p.maybeStored(at.Key)
}

// tookPlace reports whether the recorded rotation has replaced its old key. If it was interrupted, somebody may have
// rotated by hand since, and have other plans for that key.
func (p *planner) tookPlace() bool {
	return p.Rotation.made(p.InUse()) || p.Rotation.Lost || p.maybeStored(p.Rotation.New)
}

// isOver reports whether the recorded rotation is complete, and only its record is left. A record that is older than a day
// does not count: this run is the next rotation.
func (p *planner) isOver() bool {
	return p.Recorded && !p.Over && p.Rotation.New == p.InUse() && p.LeaseAge < 24*time.Hour
}

// stop deletes the record, if there is one, and ends the run.
func (p *planner) stop(outcome Outcome, why string) []Action {
	stop := Stop{Outcome: outcome, Why: why}
	if !p.Recorded || p.Over {
		return []Action{stop}
	}
	return []Action{EndRotation{p.Lease}, stop}
}

// grace is how long the old key stays accepted, and how that was decided.
func (p *planner) grace() (grace time.Duration, why string) {
	if !p.GraceAuto {
		return p.Grace, ""
	}
	short := p.Interval + p.Interval/10 + 2*time.Minute
	long := max(time.Hour, 12*p.Interval)
	tasks := platform.Here().Tasks()
	switch {
	case p.Throttled:
		return long, "SSM throttles this account, and so perhaps the " + tasks
	case !p.Attended:
		return long, tasks + " may be throttled, and nobody attends this run"
	}
	return short, "an --interval of the " + tasks + ", a tenth of it and two minutes; if SSM throttles them (snowkey_interval_seconds is longer than --interval), set --grace to 1h or more"
}

// own reports whether --grace is for the rotation that is unfinished, and not for the one that ForceNew begins.
func (p *planner) own() bool { return !p.GraceAuto && (p.made || !p.ForceNew) }

// promised is how long the old key stays accepted: never for less than the record says.
func (p *planner) promised() time.Duration {
	grace, _ := p.grace()
	switch recorded := p.Rotation.grace(); {
	case p.Rotation.New == "":
		return grace
	case p.own():
		return max(grace, recorded)
	default:
		return recorded
	}
}

// complete waits for the end of the grace period and removes the old key.
func (p *planner) complete(old []Place) []Action {
	until := p.Newest().Modified.Add(p.promised())
	if !until.After(p.Now) || p.RevokeOld && !p.made {
		return p.remove(old, p.Newest().Number)
	}
	var actions []Action
	switch grace, recorded := p.Grace, p.Rotation.grace(); {
	case !p.own():
	case grace > recorded:
		actions = append(actions, RecordGrace{grace})
	case grace < recorded && !p.made:
		return []Action{Stop{Waiting, fmt.Sprintf("the rotation has promised that the old key %s stays accepted until %s, which is longer than --grace %v: "+
			"run %s without --grace, which waits for it, or with --revoke-old, which does not", old[0].Key, until.UTC().Format(time.RFC3339), grace, p.finish()), true}}
	}
	if p.NoWait && (!p.ForceNew || p.made) {
		why := fmt.Sprintf("the old key %s stays in %s until %s; %s removes it then", old[0].Key, old[0], until.UTC().Format(time.RFC3339), p.finish())
		outcome := Waiting
		if p.made {
			outcome = Published
		}
		return append(actions, Stop{Outcome: outcome, Why: why})
	}
	return append(append(actions, Wait{Until: until, Old: old[0]}), p.remove(old, p.Newest().Number)...)
}

// remove takes old keys away, unless readers take them by a label. newest is the version that holds the new one.
func (p *planner) remove(old []Place, newest int64) []Action {
	var actions []Action
	for i, at := range old {
		if held := p.labelled(at.Key); len(held) > 0 {
			why := p.moveLabels(held, newest)
			p.note("the old key cannot be removed yet: %v", why)
			return []Action{Refuse{Why: why}}
		}
		actions = append(actions, RemoveKey{Place: at, Last: i == len(old)-1, user: p.User})
	}
	p.notePinned(old[0].Key)
	return append(actions, EndRotation{p.Lease})
}

// completeThenRotate is for ForceNew: the next key takes a place that the old one has until the rotation is completed.
func (p *planner) completeThenRotate(old []Place) []Action {
	first := p.complete(old)
	if _, removes := last(first).(EndRotation); !removes {
		return first
	}
	after := *p
	for _, at := range old {
		if at.is(p.target) {
			after.target = Place{Slot: at.Slot, Pair: at.Pair, Exists: at.Pair == ""}
		}
	}
	next := after.rotate()
	p.notes = after.notes
	return append(first, next...)
}

func last(actions []Action) Action { return actions[len(actions)-1] }

// withdraw removes a key that an interrupted run made and never stored.
func (p *planner) withdraw() []Action {
	if p.target.Pair != "" && p.place.Replaced {
		p.note("there is no way back from a rotated key pair: it is rotated again")
		return p.rotate()
	}
	return []Action{RemoveKey{Place: p.target, Unused: true, user: p.User}, EndRotation{p.Lease}, Stop{Outcome: Withdrawn, Why: "took back what an interrupted run had made"}}
}

// rotate makes a new key. Unless Snowflake lets the old one expire, it is removed after the grace period.
func (p *planner) rotate() []Action {
	if why := p.cannotRotate(); why != nil {
		return []Action{Refuse{Why: why}}
	}
	grace, why := p.grace()
	assign := AssignKey{Place: p.target, Version: p.Newest().Number, Grace: grace, user: p.User}
	switch {
	case !assign.rotates():
	case p.target.Key != p.InUse(): // it was never stored: nobody has the key that goes
	case !p.target.Expires.IsZero():
		assign.Hours = -1 // Snowflake does not let it last longer
	default:
		assign.Hours = expireAfter(grace)
	}
	if p.GraceAuto {
		p.note("grace period (auto) %v: %s", grace, why)
	}
	if !p.Expires.IsZero() {
		p.note("the parameter's Expiration policy stays: AWS deletes %s with all its versions at %s", p.Parameter, p.Expires.UTC().Format(time.RFC3339))
	}
	old := p.replacedBy(assign)
	assign.OldEnds = len(old) == 0
	actions := []Action{assign, StoreKey{p.Parameter, assign.Version + 1}}
	held := p.labelled(p.InUse())
	switch {
	case assign.OldEnds && len(held) > 0 && !p.place.Replaced:
		return refuse("ROTATE KEY PAIR gives the key in use an end within %d hours, and %w", expireAfter(grace), p.dropLabels(held))
	case assign.OldEnds && len(held) > 0:
		p.note("the key in use expires at %s, and %v", p.place.Expires.UTC().Format(time.RFC3339), p.dropLabels(held))
	}
	switch {
	case assign.OldEnds:
		p.notePinned(p.InUse())
		return append(actions, Stop{Outcome: Rotated, Why: fmt.Sprintf("Snowflake lets the old key expire; %s with --revoke-old removes it before", p.finish())})
	case p.NoWait && grace > 0:
		return append(actions, Stop{Outcome: Published, Why: "the old key stays accepted until " + p.finish() + " removes it"})
	}
	return append(append(actions, Wait{For: grace, Old: old[0]}), p.remove(old, assign.Version+1)...)
}

// replacedBy gives the places where the key in use is to be removed after the statement: it may have more than one, and
// Snowflake lets one expire that the statement replaces.
func (p *planner) replacedBy(a AssignKey) []Place {
	var all []Place
	for _, at := range p.Places {
		if at.Key == p.InUse() && !at.Replaced && !at.is(a.Place) {
			all = append(all, at)
		}
	}
	return all
}

// expireAfter is Snowflake's own day, unless the grace period is longer: an interrupted run should be noticed before the
// key in use expires.
func expireAfter(grace time.Duration) int { return max(24, int(math.Ceil(grace.Hours()))) }

func (p *planner) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// notePinned tells what happens to tasks or pods that name a version.
func (p *planner) notePinned(key string) {
	held := p.holding(key)
	if p.InUse() == key {
		held = append(held, p.Newest())
	}
	if len(held) > 0 {
		p.note("%s that name a version with the old key, such as %s:%d, stay on it and lose their login", platform.Here().Tasks(), p.Parameter, newest(held).Number)
	}
}

func newest(all []Version) Version { return all[len(all)-1] }

// moveLabels says why a key may not be removed: readers take it, or may take it, by a label.
func (p *planner) moveLabels(held []Version, to int64) error {
	return fmt.Errorf("%s; move what leads there: aws ssm label-parameter-version --name %s --parameter-version %d --labels %s, "+
		"and when its readers have followed run %s", p.labelsLead(held), p.Parameter, to, strings.Join(labelsOf(held), " "), p.finish())
}

// dropLabels says why a key pair may not be rotated: a label leads to its key, or may.
func (p *planner) dropLabels(held []Version) error {
	return fmt.Errorf("%s; have its readers name the parameter without a label, and take that off: aws ssm unlabel-parameter-version --name %s "+
		"--parameter-version %d --labels %s; or name another key pair in --key-pair, beside which the old one stays until the label has moved",
		p.labelsLead(held), p.Parameter, held[0].Number, strings.Join(held[0].Labels, " "))
}

func (p *planner) labelsLead(held []Version) string {
	var texts []string
	for _, v := range held {
		does := "holds the key " + v.Key
		if v.Sealed {
			does = "cannot be opened with the passphrase of the newest, and so may hold the old key"
		}
		texts = append(texts, fmt.Sprintf("version %d, which has the label %s, %s", v.Number, strings.Join(v.Labels, " and "), does))
	}
	return fmt.Sprintf("%s, and readers of %s:%s take it", strings.Join(texts, ", and "), p.Parameter, held[0].Labels[0])
}

func labelsOf(all []Version) []string {
	var labels []string
	for _, v := range all {
		labels = append(labels, v.Labels...)
	}
	return labels
}

func (p *planner) cannotRotate() error {
	switch {
	case p.Managed:
		return errors.New("the parameter holds the JSON of a managed secret, whose readers may take more from it than the key; " +
			"store the key alone as PEM, with `sidecar keygen --put`, or keep the secret in Secrets Manager, which rotates it")
	case p.Plain:
		return errors.New("the key is stored without encryption, and a new one would be encrypted with a passphrase that its readers may not have; " +
			"store it encrypted first, with `sidecar keygen --put`")
	case len(p.Sharers) > 0:
		return fmt.Errorf("the key in use, %s, is also the key of %s: a new key in %s would take their login; "+
			"store a key for each user in a parameter of its own, with `sidecar keygen --put`", p.InUse(), strings.Join(quoted(p.Sharers), " and "), p.Parameter)
	}
	return nil
}

func quoted(users []string) []string {
	var all []string
	for _, u := range slices.Sorted(slices.Values(users)) {
		all = append(all, "user "+u)
	}
	return all
}

func (p *planner) refuseElsewhere() []Action {
	if p.KeyPair == "" {
		return refuse("the key in use, %s, is accepted, but is in neither slot of the user; name its key pair in --key-pair, or assign it to a slot", p.InUse())
	}
	return refuse("the key in use, %s, is accepted, but is in neither a slot nor a key pair that is shown; see DESC USER and SHOW USER KEY PAIRS for where it is", p.InUse())
}

// refuseUnrecorded is for a key that no rotation has recorded: another parameter or program may use it.
func (p *planner) refuseUnrecorded() []Action {
	where := "in no version of the parameter that this passphrase opens"
	if held := p.holding(p.target.Key); len(held) > 0 {
		where = fmt.Sprintf("of version %d of the parameter, and no rotation has recorded that it may go: another parameter may hold it", newest(held).Number)
	}
	free := removal(p.User, p.target)
	why := fmt.Errorf("both slots of %s are in use: %s holds the key in use, and %s the key %s, set at %s, which is %s; if nobody needs it: %s",
		snowflake.Identifier(p.User), p.place, p.target, p.target.Key, setAt(p.target.Slot), where, free)
	if p.target.Pair != "" {
		why = fmt.Errorf("%s holds the key %s, which is %s; name another key pair in --key-pair, or if nobody needs it: %s", p.target, p.target.Key, where, free)
	}
	return []Action{Refuse{Why: why, unrecorded: true}}
}

func setAt(s snowflake.Slot) string {
	if s.SetAt.IsZero() {
		return "a time that Snowflake does not say"
	}
	return s.SetAt.Format(time.RFC3339)
}

// describe sums a state up in a line.
func describe(s State, g Goal) string {
	head := fmt.Sprintf("version %d of the parameter holds %s", s.Newest().Number, s.InUse())
	if s.Refused != nil {
		return head + ", which Snowflake refuses"
	}
	p := newPlanner(s, g)
	if !p.found {
		return head + ", which Snowflake accepts, but not from where it was expected"
	}
	head += fmt.Sprintf(", in %s", p.place)
	there := p.target.Key
	old := p.old()
	switch {
	case len(old) > 0:
		return fmt.Sprintf("%s; an unfinished rotation left the key before it, %s, in %s", head, old[0].Key, old[0])
	case there == "" || there == s.InUse():
		return head
	case !s.Over && s.Rotation.made(there):
		return fmt.Sprintf("%s; an interrupted rotation left %s, which was never stored, in %s", head, there, p.target)
	}
	return fmt.Sprintf("%s; %s holds %s, which no rotation has recorded", head, p.target, there)
}
