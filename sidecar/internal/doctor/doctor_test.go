package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"

	"github.com/snowkey/snowkey/internal/tools/testkey"
	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/harden"
	"github.com/snowkey/snowkey/sidecar/internal/platform"
	"github.com/snowkey/snowkey/sidecar/internal/snowflake"
	"github.com/snowkey/snowkey/sidecar/internal/ssm"
)

// The tests of the command run all checks as a process. These are about the order, and about facts that a machine for
// tests does not have.

func TestChecks_NeedOnlyEarlierOnes(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range append(processGroups, keyGroups...) {
		for _, c := range g.checks {
			for _, needed := range c.needs {
				if !seen[needed] {
					t.Errorf("%s needs %s, which is not before it", c.name, needed)
				}
			}
			if seen[c.name] {
				t.Errorf("there are two checks called %s", c.name)
			}
			seen[c.name] = true
		}
	}
}

func TestJudge_SkipsOnlyWhatNeedsAFailedCheck(t *testing.T) {
	always := func(found finding) func(*facts) finding { return func(*facts) finding { return found } }
	report := judge(nil, []group{
		{applies: func(*facts) string { return "" }, checks: []check{
			{"first", nil, always(fail("broken\nin two lines", "mend it"))},
			{"second", []string{"first"}, always(ok("never seen"))},
			{"third", []string{"second"}, always(ok("never seen"))},
			{"other", nil, always(skip("not of use"))},
			{"after other", []string{"other"}, always(warn("odd", ""))},
		}},
		{applies: func(*facts) string { return "not here" }, checks: []check{{"elsewhere", nil, nil}}},
	})
	var text strings.Builder
	if err := report.Text(&text); err != nil {
		t.Fatal(err)
	}
	const want = `skip  second, third (first failed)
skip  other (not of use)
skip  elsewhere (not here)

fail  first: broken in two lines
      fix: mend it
warn  after other: odd

6 checks: 1 failed, 1 warning, 4 skipped
`
	if text.String() != want || report.Failed != 1 || report.Warnings != 1 {
		t.Errorf("%d failed, %d warnings:\n%s", report.Failed, report.Warnings, &text)
	}
}

func TestReport_CollapsesSkipsOfEachKeyApart(t *testing.T) {
	var text strings.Builder
	r := &Report{Checks: []Result{
		{Key: "a", Check: "role", State: Skip, Says: "no login"}, {Key: "a", Check: "age", State: Skip, Says: "no login"},
		{Key: "b", Check: "role", State: Skip, Says: "no login"}, {Key: "b", Check: "age", State: OK, Says: "1 day"},
	}}
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	const want = "skip  a, role, age (no login)\nskip  b, role (no login)\nok    b, age: 1 day\n\n4 checks: 1 ok, 3 skipped\n"
	if text.String() != want {
		t.Errorf("it says\n%s\nwant\n%s", &text, want)
	}
}

func TestSize_IsReadable(t *testing.T) {
	for bytes, want := range map[uint64]string{0: "0 bytes", 1 << 10: "1 KiB", 1008 << 10: "1008 KiB", 65920016 << 10: "62.9 GiB", 1 << 63: "8 EiB"} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}

func TestFailed_UnknownErrorHasAdvice(t *testing.T) {
	is(t, failed(errors.New("ValidationException: odd")), "fail  it: ValidationException: odd; search the documentation of AWS or Snowflake for this error")
}

func is(t *testing.T, found finding, want string) {
	t.Helper()
	if got := (Result{Check: "it", State: found.state, Says: found.says, Advice: found.advice}).String(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestCredentials_NamesTheTaskRole(t *testing.T) {
	t.Setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x")
	f := &facts{here: platform.ECS, aws: awsFacts{source: endpointcreds.ProviderName, arn: "arn:aws:sts::1:assumed-role/app/s", account: "1"}}
	is(t, judgeCredentials(f), "ok    it: arn:aws:sts::1:assumed-role/app/s (account 1), the task role")
	f.aws.source = "EC2RoleProvider"
	is(t, judgeCredentials(f), "warn  it: arn:aws:sts::1:assumed-role/app/s (account 1), from the instance's role, in an ECS task that should use the task role; "+
		"give the task a task role (taskRoleArn), and take other credentials out of the task definition")
}

func TestCredentials_NamesThoseOfAPod(t *testing.T) {
	const who = "arn:aws:sts::1:assumed-role/app/s (account 1)"
	f := &facts{here: platform.Pod, aws: awsFacts{provider: ssm.WebIdentity, arn: "arn:aws:sts::1:assumed-role/app/s", account: "1"}}
	const role = ", the role of the pod's service account, by "
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app")
	is(t, judgeCredentials(f), "ok    it: "+who+role+"web identity, role arn:aws:iam::123456789012:role/app")
	t.Setenv("AWS_ROLE_ARN", "a secret in the wrong place")
	is(t, judgeCredentials(f), "ok    it: "+who+role+"web identity")
	f.aws.provider = ssm.PodIdentity
	is(t, judgeCredentials(f), "ok    it: "+who+role+"EKS Pod Identity")
	f.aws.provider = ssm.OtherProvider
	advice := ", in a pod that should use the role of the pod's service account; give the service account a role (a Pod Identity association, or its annotation " +
		"eks.amazonaws.com/role-arn), and take other credentials out of the pod's spec"
	for provider, from := range map[string]string{"EC2RoleProvider": "the node's role", awsconfig.CredentialsSourceName: "AWS_ACCESS_KEY_ID"} {
		f.aws.source = provider
		is(t, judgeCredentials(f), "warn  it: "+who+", from "+from+advice)
	}
}

func TestCredentials_NoneInAPod(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	f := &facts{here: platform.Pod, aws: awsFacts{credentials: errors.New("no EC2 IMDS role found")}}
	found := judgeCredentials(f)
	if found.state != Fail || !strings.Contains(found.advice, "serviceAccountName of the pod's spec") {
		t.Errorf("%+v", found)
	}
}

func TestFilesystem_DiskOfANode(t *testing.T) {
	f := &facts{settings: &config.DoctorConfig{}, here: platform.Pod}
	f.directory.filesystem, f.directory.dir.Formats = "xfs", keyfile.Formats
	found := judgeFilesystem(f)
	if found.state != Warn || !strings.Contains(found.says, "a disk of the node") || !strings.Contains(found.advice, "emptyDir volume with medium: Memory") {
		t.Errorf("%+v", found)
	}
	f.settings.RequireTmpfs = true
	if found := judgeFilesystem(f); found.state != Fail || !strings.Contains(found.advice, "medium: Memory") {
		t.Errorf("%+v", found)
	}
}

// Such a directory that is not in memory may be one of the node, and of other pods too.
func TestReaders_DirectoryOfTheNode(t *testing.T) {
	f := &facts{here: platform.Pod, settings: &config.DoctorConfig{}}
	f.directory.dir.Mode, f.directory.at, f.directory.filesystem = 0o440, owned{0, 0, fs.ModeDir | 0o777}, "ext4"
	if found := judgeReaders(f); found.state != Warn || !strings.Contains(found.says, "everybody who has this volume") {
		t.Errorf("%+v", found)
	}
}

// The kubelet lets every user write in an emptyDir, and readOnly in a container's volumeMounts keeps the container out.
func TestReaders_DirectoryOfTheKubelet(t *testing.T) {
	us := owned{uint32(os.Geteuid()), uint32(os.Getegid()), 0o440}
	for _, tc := range []struct {
		here  platform.Platform
		at    owned
		state State
		words []string
	}{
		{platform.Pod, owned{0, 65532, fs.ModeDir | fs.ModeSetgid | 0o777}, OK, []string{fmt.Sprintf("every process with gid %d", us.gid), "0:65532 2777", "readOnly: true"}},
		{platform.Pod, owned{0, 0, fs.ModeDir | 0o777}, OK, []string{"0:0 0777", "replace the key", "readOnly: true"}},
		{platform.Pod, owned{0, 65532, fs.ModeDir | fs.ModeSetgid | fs.ModeSticky | 0o777}, OK, []string{"0:65532 3777", "put files beside the key", "readOnly: true"}},
		{platform.ECS, owned{0, 0, fs.ModeDir | fs.ModeSticky | 0o777}, Warn, []string{"every user of every container can put files beside the key"}},
		{platform.Pod, owned{1000, 1000, fs.ModeDir | 0o777}, Fail, []string{"every user of every container can replace the key", "readOnly: true", "fsGroup"}},
		{platform.ECS, owned{0, 0, fs.ModeDir | 0o777}, Fail, []string{"every user of every container can replace the key", "mode=0750"}},
	} {
		f := &facts{here: tc.here, settings: &config.DoctorConfig{}}
		f.directory.dir.Mode, f.directory.at, f.directory.filesystem = 0o440, tc.at, "tmpfs"
		found := judgeReaders(f)
		for _, w := range tc.words {
			if found.state != tc.state || !strings.Contains(found.says+"; "+found.advice, w) {
				t.Errorf("%v in %v: %+v lacks %q", tc.at, tc.here, found, w)
			}
		}
	}
}

func TestFilesystem_ContainersOwnLayerIsNoVolume(t *testing.T) {
	f := &facts{settings: &config.DoctorConfig{}, onFargate: true}
	f.directory.filesystem, f.directory.dir.Path = "overlay", "/run/snowflake"
	is(t, judgeFilesystem(f), "warn  it: overlay, the container's own layer, which no other container sees; mount the shared volume at /run/snowflake")
}

func TestLastRefresh_IsLate(t *testing.T) {
	now := time.Now()
	f := &facts{now: now, settings: &config.DoctorConfig{Interval: 5 * time.Minute}}
	f.directory.status.Source = "/app/key"
	f.directory.status.CheckedAt = now.Add(-11 * time.Minute)
	is(t, judgeLastRefresh(f), "ok    it: 11m0s ago, of /app/key")
	f.directory.status.CheckedAt = now.Add(-12 * time.Minute)
	is(t, judgeLastRefresh(f), "warn  it: 12m0s ago, and no sidecar runs here; start it: sidecar run")
	f.directory.locked = true
	is(t, judgeLastRefresh(f), "warn  it: 12m0s ago, with --interval 5m0s; see the line \"refresh failed\" in the sidecar's log, or what \"sidecar once\" printed")
}

func TestOtherSidecars_DirectoryWithoutLocks(t *testing.T) {
	f := &facts{settings: &config.DoctorConfig{}}
	f.directory.lockProblem, f.directory.lockAdvice = "the directory cannot be locked on its file system (nfs)", "give each sidecar a directory of its own"
	is(t, judgeOthers(f), "warn  it: not known: the directory cannot be locked on its file system (nfs); give each sidecar a directory of its own")
	f.directory.locked = true
	f.directory.status.Source = "/app/key"
	if found := judgeOthers(f); found.state == Warn {
		t.Errorf("%+v", found)
	}
}

func TestDirectory_HangingFilesystemIsAFailure(t *testing.T) {
	f := &facts{settings: &config.DoctorConfig{}}
	f.directory.dir.Path, f.directory.err = "/run/snowflake", errors.New("the filesystem does not answer within 5s")
	is(t, judgeDirectory(f), "fail  it: /run/snowflake: the filesystem does not answer within 5s; check the volume mounted at /run/snowflake")
}

func TestPublicKey_InTheSlots(t *testing.T) {
	key := testkey.Key(0)
	now := time.Now()
	f := &facts{now: now, settings: &config.DoctorConfig{}, snowflake: snowflakeFacts{user: "svc"}}
	f.snowflake.login.name = "SVC"
	l := &f.snowflake.login
	l.key = key
	l.slots = [2]snowflake.Slot{{Number: 1, Fingerprint: "SHA256:other"}, {Number: 2, Fingerprint: key.Fingerprint()}}
	is(t, judgePublicKey(f), "ok    it: RSA_PUBLIC_KEY_2")
	is(t, judgeAge(f), "skip  it (Snowflake does not say when it was set)")
	is(t, judgeOtherSlot(f), "ok    it: RSA_PUBLIC_KEY, SHA256:other")
	l.slots[0].Fingerprint = key.Fingerprint()
	is(t, judgeOtherSlot(f), "ok    it: the same key")
	l.slots[1].SetAt, l.slots[0].SetAt = now.Add(-90*24*time.Hour), now.Add(-90*24*time.Hour)
	is(t, judgeAge(f), "ok    it: set 90 days ago")

	l.unknown = errors.New("Snowflake: 003001 (42501): no")
	is(t, judgePublicKey(f), "warn  it: Snowflake: 003001 (42501): no; run this with the privilege to see the user: DESC USER SVC")
}

func TestPublicKey_NamedKeyPairExpires(t *testing.T) {
	key := testkey.Key(0)
	now := time.Now()
	f := &facts{now: now, settings: &config.DoctorConfig{}}
	l := &f.snowflake.login
	l.key = key
	l.pair = snowflake.KeyPair{Name: "ETL", ExpiresAt: now.Add(20 * 24 * time.Hour)}
	is(t, judgePublicKey(f), "ok    it: the named key pair ETL, which expires in 480h0m0s")
	l.pair.ExpiresAt = now.Add(3 * time.Hour)
	is(t, judgePublicKey(f), "warn  it: the named key pair ETL, which expires in 3h0m0s; rotate it before: sidecar rotate --key-pair ETL")
	l.pair.Name = "Jane's etl"
	is(t, judgePublicKey(f), `warn  it: the named key pair Jane's etl, which expires in 3h0m0s; rotate it before: sidecar rotate --key-pair '"Jane'\''s etl"'`)
}

func TestClock_Differs(t *testing.T) {
	now := time.Now()
	at := func(ahead time.Duration) answer {
		return answer{sent: now, came: now, date: now.Add(-ahead - time.Second/2)}
	}
	for ahead, want := range map[time.Duration]State{0: OK, 4 * time.Second: OK, -5 * time.Second: Warn, 29 * time.Second: Warn, -30 * time.Second: Fail} {
		if found := judgeClock(at(ahead), "AWS"); found.state != want {
			t.Errorf("%v: %+v, want %s", ahead, found, want)
		}
	}
	is(t, judgeClock(at(4*time.Second), "AWS"), "ok    it: this machine is 4s ahead of AWS")
	is(t, judgeClock(answer{sent: now, came: now}, "AWS"), "skip  it (AWS did not say what time it is)")
}

// Errors of AWS, Snowflake and net/http repeat addresses; no finding may.
func TestJudge_PrintsNoPasswordOfAnAddress(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://user:hunter2 x@proxy:1:2/")
	report := judge(nil, []group{{applies: func(*facts) string { return "" }, checks: []check{
		{"first", nil, func(*facts) finding {
			return fail("invalid proxy address \"http://user:hunter2 x@proxy:1:2/\"", "correct http://user:hunter2@host")
		}},
		{"second", nil, func(*facts) finding {
			return skip("Post \"https://user:hunter2@host/\": invalid port \":hunter2\" after host")
		}},
	}}})
	for _, c := range report.Checks {
		if text := c.String(); strings.Contains(text, "hunter2") || strings.Contains(text, "user") {
			t.Error(text)
		}
	}
}

func TestProcess_SaysWhatRuns(t *testing.T) {
	is(t, judgeProtection(harden.Protection{Holds: true, Says: "erased"}), "ok    it: erased")
	is(t, judgeProtection(harden.Protection{Says: "not erased", Advice: "build it otherwise"}), "warn  it: not erased; build it otherwise")
}
