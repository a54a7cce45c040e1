//go:build faults

package faults

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/shared/keyfile"
)

var clockScenarios = []scenario{
	{
		fault: "the machine's clock jumps an hour ahead (`--verify`)", consumer: wrongHour, operator: corrected,
		within: 45 * time.Second, prepare: (*fixture).verify, run: clockJumps(time.Hour),
	},
	{
		fault: "the machine's clock jumps an hour back (`--verify`)", consumer: wrongHour, operator: corrected,
		within: 45 * time.Second, prepare: (*fixture).verify, run: clockJumps(-time.Hour),
	},
}

const (
	wrongHour = "nothing; logins with a new key wait until the clock is right"
	corrected = "nothing: calls are signed by the clocks of AWS and Snowflake"
)

// Programs whose clock can jump. A time namespace shifts monotonic clocks only, libfaketime needs a libc, and
// the clock of the machine is everybody's: so both programs are built again, with a time.Now that adds what
// is in a file. Timers go by the monotonic clock, which a jump does not touch there either.
const (
	jumping       = "jumping" // their directory
	clockVariable = "FAULTS_CLOCK"

	realNow    = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {"
	jumpingNow = "\tsec, nsec, mono := runtimeNow()\n\tsec += jumped()\n\tif mono == 0 {"
	jumped     = `package time

import (
	"syscall"
	"unsafe"
)

// jump is by how many seconds the clock was set forward. It is in a file that is mapped once: timers ask for
// the time where no system call can be made.
var jump = new(int64)

func init() {
	path, ok := syscall.Getenv("` + clockVariable + `")
	if !ok {
		return
	}
	file, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	defer syscall.Close(file)
	page, err := syscall.Mmap(file, 0, int(unsafe.Sizeof(*jump)), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	jump = (*int64)(unsafe.Pointer(&page[0]))
}

func jumped() int64 { return *jump }
`
)

func buildWithJumpingClock(dir string) error {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	library := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(library, "time.go"))
	if err != nil {
		return err
	}
	changed := bytes.Replace(source, []byte(realNow), []byte(jumpingNow), 1)
	if bytes.Equal(changed, source) {
		return errors.New("this Go's time.Now is not the one that this test knows: check realNow")
	}
	return buildVariant(filepath.Join(dir, jumping), map[string]string{
		filepath.Join(library, "time.go"): string(changed), filepath.Join(library, "jump.go"): jumped,
	}, "sidecar", "consumer")
}

// clockJumps has a new key stored while the clock is wrong: it is published, and Snowflake takes no login with
// it, as with any other, before the clock is right.
func clockJumps(by time.Duration) func(*fixture, scenario) time.Duration {
	return func(f *fixture, s scenario) time.Duration {
		f.program, f.application = filepath.Join(jumping, "sidecar"), filepath.Join(jumping, "consumer")
		file := filepath.Join(f.t.TempDir(), "clock")
		f.sidecarEnv[clockVariable], f.consumerEnv[clockVariable] = file, file
		jump := func(by time.Duration) {
			f.t.Helper()
			out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600) // cut short, it would end who has it mapped
			if err != nil {
				f.t.Fatal(err)
			}
			defer out.Close()
			if _, err := out.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(by/time.Second)), 0); err != nil {
				f.t.Fatal(err)
			}
		}
		jump(0)

		f.begin()
		since := f.sidecar.Mark()
		queries := f.consumer.Mark()
		before, err := keyfile.ReadStatus(f.dir)
		if err != nil {
			f.t.Fatal(err)
		}
		// With a call under way the SDK would learn of the jump from its answer.
		testenv.Eventually(f.t, "the end of a refresh, so that the next one is an interval away", func() bool {
			status, err := keyfile.ReadStatus(f.dir)
			return err == nil && !status.CheckedAt.Equal(before.CheckedAt)
		})
		jump(by)
		f.rotate()
		f.published()
		status, err := keyfile.ReadStatus(f.dir)
		if err != nil {
			f.t.Fatal(err)
		}
		if off := time.Until(status.CheckedAt) - by; off.Abs() > time.Minute {
			f.t.Errorf("checked_at is %v, which is %v away from a clock that is off by %v", status.CheckedAt, off, by)
		}
		if f.misdated.Load() == 0 {
			f.t.Error("no call was signed at another hour: the clock has not jumped")
		}
		f.queriesGoOn()
		time.Sleep(3 * time.Second)
		if f.consumer.Said(queries, "msg=answered", f.newestFingerprint()) {
			f.t.Error("Snowflake took a login of another hour: the clock has not jumped")
		}
		f.quiet(since)
		queries = f.consumer.Mark()
		jump(0)
		return f.adopted(queries)
	}
}
