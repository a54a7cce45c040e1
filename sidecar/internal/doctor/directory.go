package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/snowkey/snowkey/shared/keyfile"
	"github.com/snowkey/snowkey/sidecar/internal/config"
	"github.com/snowkey/snowkey/sidecar/internal/keysocket"
	"github.com/snowkey/snowkey/sidecar/internal/owner"
	"github.com/snowkey/snowkey/sidecar/internal/platform"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

var directoryChecks = group{
	applies: func(f *facts) string {
		if runtime.GOOS == "windows" {
			return "key directories are for Linux"
		}
		d := f.directory
		if errors.Is(d.err, fs.ErrNotExist) && f.here == platform.Elsewhere && f.settings.Dir == keyfile.DefaultDir {
			return "there is no " + f.settings.Dir + ", and this is " + f.here.String()
		}
		return ""
	},
	checks: []check{
		{"directory", nil, judgeDirectory},
		{"filesystem", []string{"directory"}, judgeFilesystem},
		{"writing", []string{"directory"}, judgeWriting},
		{"space", []string{"directory"}, judgeSpace},
		{"readers", []string{"directory"}, judgeReaders},
		{"published key", []string{"directory"}, judgePublished},
		{"connections", []string{"directory"}, judgeConnections},
		{"last refresh", []string{"directory"}, judgeLastRefresh},
		{"other sidecars", []string{"directory"}, judgeOthers},
	},
}

// roomNeeded has space for a second copy of each file: readers may hold the first one open.
const roomNeeded = 16 << 10

const (
	readLog       = `see the line "refresh failed" in the sidecar's log, or what "sidecar once" printed`
	writesAgain   = "send SIGHUP to refresh: that writes the file again"
	setsModeAgain = "send SIGHUP to refresh: that sets the mode again"
)

type directoryFacts struct {
	dir         publish.Dir
	err         error // why the directory cannot be inspected
	toMake      bool  // it is missing, and the sidecar creates it; the fields below are about its parent
	at          owned
	files       map[string]owned // the key files and sockets that exist
	filesystem  string
	unwritable  error
	free        uint64 // bytes for this user
	unreadable  error  // why the published key is not valid
	published   *keyfile.Key
	differs     string // a file that holds another key than the first
	conflict    error
	connections connectionsFacts
	status      keyfile.Status
	statusError error
	locked      bool
	lockProblem string // why it cannot be locked
	lockAdvice  string
}

// there is the directory that was inspected.
func (d directoryFacts) there() publish.Dir {
	if d.toMake {
		return publish.Dir{Path: filepath.Dir(d.dir.Path)}
	}
	return d.dir
}

// owned is the owner and the mode of a file as other containers see them: as numbers.
type owned struct {
	uid, gid uint32
	mode     fs.FileMode
}

func (o owned) String() string { return fmt.Sprintf("%d:%d %04o", o.uid, o.gid, unixMode(o.mode)) }

// unixMode has the bits where chmod(1) has them.
func unixMode(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for flag, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

func publishDir(c *config.DoctorConfig, k config.Key) publish.Dir {
	dir := publish.Dir{Path: k.Dir, InParent: k.Name != "", Formats: c.Formats, Serve: c.Serve, Mode: c.FileMode}
	if c.Connections {
		dir.Connections = &publish.Connections{Mode: c.ConnectionsMode}
	}
	return dir
}

// gatherDirectory has a timeout because the operating system has none: a network filesystem may hang.
func gatherDirectory(ctx context.Context, dir publish.Dir) directoryFacts {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	inspected := make(chan directoryFacts, 1)
	go func() { inspected <- inspect(dir) }()
	select {
	case d := <-inspected:
		return d
	case <-ctx.Done():
		return directoryFacts{dir: dir, err: fmt.Errorf("the filesystem does not answer within %v", callTimeout)}
	}
}

func inspect(dir publish.Dir) directoryFacts {
	d := directoryFacts{dir: dir, files: map[string]owned{}}
	info, err := os.Stat(dir.Path)
	if errors.Is(err, fs.ErrNotExist) && dir.InParent {
		d.toMake = true
		info, err = os.Stat(d.there().Path)
	}
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		d.err = err
		return d
	}
	d.at = ownedBy(info)
	for _, name := range dir.EntryNames() {
		if info, err := os.Lstat(filepath.Join(dir.Path, name)); err == nil && (info.Mode().IsRegular() || info.Mode().Type() == fs.ModeSocket) {
			d.files[name] = ownedBy(info)
		}
	}
	d.filesystem = publish.Filesystem(d.there().Path)
	d.unwritable, d.free = writable(d.there().Path), freeBytes(d.there().Path)
	d.connections = inspectConnections(dir)
	if d.toMake {
		d.unreadable, d.statusError = fs.ErrNotExist, fs.ErrNotExist
		return d
	}
	d.conflict = dir.Conflict()
	d.unreadable = dir.Check()
	if !errors.Is(d.unreadable, keyfile.ErrNotServed) { // a sidecar that hangs would be waited for at each socket
		d.published = dir.Published()
		d.differs = dir.Differing(d.published)
	}
	d.status, d.statusError = keyfile.ReadStatus(dir.Path)
	d.locked = dir.Locked()
	d.lockProblem, d.lockAdvice = dir.LockProblem()
	return d
}

func judgeDirectory(f *facts) finding {
	d := f.directory
	path := d.there().Path
	if d.err != nil {
		err := d.err
		if path, found := errors.AsType[*fs.PathError](err); found {
			err = path.Err
		}
		return fail(fmt.Sprintf("%s: %v", path, err), d.there().Advice(err))
	}
	if d.toMake {
		return ok(fmt.Sprintf("the sidecar creates %s in %s, %s", d.dir.Path, path, d.at))
	}
	return ok(fmt.Sprintf("%s, %s", path, d.at))
}

func judgeFilesystem(f *facts) finding {
	d := f.directory
	mount := f.here.MountMemory(os.Geteuid(), os.Getegid())
	switch {
	case publish.InMemory(d.filesystem):
		return ok(d.filesystem + ", in memory")
	case f.settings.RequireTmpfs && len(d.dir.Formats) > 0:
		return fail(d.filesystem+", and --require-tmpfs allows tmpfs and ramfs only", mount)
	case d.filesystem == "unknown":
		return skip("not known on this system")
	case d.filesystem == "overlay":
		return warn("overlay, the container's own layer, which no other container sees", "mount the shared volume at "+d.dir.Path)
	case len(d.dir.Formats) == 0:
		return ok(d.filesystem + ", and no key is written there (--formats none)")
	case f.onFargate:
		return ok(d.filesystem + ", Fargate's ephemeral storage: a disk, encrypted at rest and gone with the task; --serve with --formats none, or sidecar exec, keeps the key in memory")
	case f.here == platform.Pod:
		return warn(d.filesystem+", a disk of the node: the key is on it as long as the pod", mount)
	default:
		return warn(d.filesystem+", a disk: the key outlives the task there", mount)
	}
}

func judgeWriting(f *facts) finding {
	d := f.directory
	if d.unwritable != nil {
		return fail(fmt.Sprintf("uid %d cannot write there: %v", os.Geteuid(), d.unwritable), d.there().Advice(d.unwritable))
	}
	if d.conflict != nil {
		return failed(d.conflict)
	}
	return ok(fmt.Sprintf("uid %d can write there", os.Geteuid()))
}

func judgeSpace(f *facts) finding {
	if f.directory.free < roomNeeded {
		return fail(size(f.directory.free)+" are free", f.directory.there().Advice(syscall.ENOSPC))
	}
	return ok(size(f.directory.free) + " are free")
}

// size has at most one digit after the point.
func size(bytes uint64) string {
	if bytes < 1<<10 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	n, units := float64(bytes)/(1<<10), "KMGTPE"
	for ; n >= 1<<10; n /= 1 << 10 {
		units = units[1:]
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0") + " " + units[:1] + "iB"
}

// isOfTheKubelet reports whether the kubelet has made the directory: with or without an fsGroup, every user may write in an
// emptyDir. One in memory also has the sticky bit, which a new tmpfs has.
func (o owned) isOfTheKubelet() bool {
	return o.uid == 0 && o.mode.Perm() == 0o777
}

// danger is what every user can do in a directory that every user may write to.
func (o owned) danger() string {
	if o.mode&fs.ModeSticky != 0 {
		return "put files beside the key"
	}
	return "replace the key"
}

// readersOf names the processes that may read the file, by its mode.
func readersOf(file owned) string {
	switch {
	case file.mode&0o004 != 0:
		return fmt.Sprintf("every user (%s)", file)
	case file.mode&0o040 == 0:
		return fmt.Sprintf("uid %d alone (%s)", file.uid, file)
	default:
		return fmt.Sprintf("uid %d, and every process with gid %d (%s)", file.uid, file.gid, file)
	}
}

// judgeReaders says who can read the key, in the containers that mount the volume.
func judgeReaders(f *facts) finding {
	d := f.directory
	file := owned{uint32(os.Geteuid()), uint32(owner.Group(d.at.mode, int(d.at.gid))), d.dir.Mode} // as the first one will be
	first := ""
	for _, name := range d.dir.EntryNames() {
		there, found := d.files[name]
		if !found {
			continue
		}
		wanted := d.dir.Mode
		if there.mode&fs.ModeSocket != 0 {
			wanted = keysocket.Mode(d.dir.Mode)
		}
		if there.mode.Perm() != wanted {
			return fail(fmt.Sprintf("%s is %s, and by --file-mode %04o it has to be %04o", name, there, d.dir.Mode, wanted), setsModeAgain)
		}
		if first != "" && (there.uid != file.uid || there.gid != file.gid) {
			return fail(fmt.Sprintf("%s is of %d:%d, and %s of %d:%d", name, there.uid, there.gid, first, file.uid, file.gid), "send SIGHUP to refresh: that sets the owner again")
		}
		first = name
		file = owned{there.uid, there.gid, d.dir.Mode}
	}
	remount := f.here.Remount(int(file.uid), int(file.gid))
	switch {
	case f.here == platform.Pod && publish.InMemory(d.filesystem) && d.at.isOfTheKubelet():
		return ok(fmt.Sprintf("%s, in every container that mounts it; the kubelet made it %s, so that each of them can %s "+
			"unless its volumeMounts have readOnly: true", readersOf(file), d.at, d.at.danger()))
	case f.here == platform.Pod && d.at.isOfTheKubelet(): // or a volume of the node, which other pods may mount
		return warn(fmt.Sprintf("%s; everybody who has this volume, which is not in memory, can %s: the directory is %s", readersOf(file), d.at.danger(), d.at), remount)
	case d.at.mode&0o002 != 0 && d.at.mode&fs.ModeSticky == 0:
		return fail(fmt.Sprintf("every user of every container can %s: the directory is %s", d.at.danger(), d.at), remount)
	case d.at.mode&0o002 != 0:
		return warn(fmt.Sprintf("every user of every container can %s: the directory is %s", d.at.danger(), d.at), remount)
	case d.at.mode&0o020 != 0 && d.at.mode&fs.ModeSticky == 0:
		return warn(fmt.Sprintf("every process with gid %d can replace the key: the directory is %s", d.at.gid, d.at), remount)
	case file.mode&0o004 != 0 && d.at.mode&0o001 != 0:
		return ok(fmt.Sprintf("every user of every container that mounts it (%s)", file))
	case file.mode&0o040 == 0:
		return ok(readersOf(file))
	case d.at.mode&0o001 != 0, d.at.mode&0o010 != 0 && d.at.gid == file.gid:
		return ok(readersOf(file))
	default:
		return warn(fmt.Sprintf("uid %d alone: gid %d may read the key, but not enter the directory (%s)", file.uid, file.gid, d.at), remount)
	}
}

func judgePublished(f *facts) finding {
	d := f.directory
	start := "start the sidecar: sidecar run"
	if d.locked {
		start = readLog
	}
	switch {
	case errors.Is(d.unreadable, fs.ErrNotExist) && len(d.files) == 0:
		return warn("none yet", start)
	case errors.Is(d.unreadable, fs.ErrPermission):
		return warn(fmt.Sprintf("uid %d may not read it", os.Geteuid()), "run doctor as the sidecar's or a reader's user")
	case d.unreadable != nil && d.conflict != nil:
		return skip("writing failed")
	case errors.Is(d.unreadable, keyfile.ErrSocketClosed):
		return fail(d.unreadable.Error(), `see "a reader got no key" in the sidecar's log, and end the program that holds the connections`)
	case errors.Is(d.unreadable, keyfile.ErrNotServed):
		return fail(d.unreadable.Error(), start+", or start it again if it hangs")
	case d.unreadable != nil:
		return fail(d.unreadable.Error(), writesAgain)
	case d.differs != "":
		return fail(fmt.Sprintf("%s holds another key than %s", d.differs, d.dir.EntryNames()[0]), writesAgain)
	case f.key.key == nil:
		return ok(d.published.Fingerprint() + "; whether it is the newest is not known")
	case d.published.Fingerprint() != f.key.key.Fingerprint():
		return warn(fmt.Sprintf("%s, and the newest is %s", d.published, f.key.key), "send SIGHUP to refresh now, or wait for --interval")
	default:
		return ok(d.published.Fingerprint() + ", the newest")
	}
}

func judgeLastRefresh(f *facts) finding {
	d := f.directory
	if errors.Is(d.statusError, fs.ErrNotExist) {
		return skip("there is no " + keyfile.StatusName)
	}
	if d.statusError != nil {
		return fail(d.statusError.Error(), writesAgain)
	}
	if e := d.status.LastError; e != nil {
		return fail(fmt.Sprintf("%s ago, failed: %s", f.ago(e.At), e.Class), readLog)
	}
	age := f.ago(d.status.CheckedAt)
	if late := 2*f.settings.Interval + time.Minute; age > late && !d.locked {
		return warn(fmt.Sprintf("%s ago, and no sidecar runs here", age), "start it: sidecar run")
	} else if age > late {
		return warn(fmt.Sprintf("%s ago, with --interval %v", age, f.settings.Interval), readLog)
	}
	return ok(fmt.Sprintf("%s ago, of %s", age, d.status.Source))
}

func (f *facts) ago(at time.Time) time.Duration { return max(0, f.now.Sub(at)).Round(time.Second) }

func judgeOthers(f *facts) finding {
	d := f.directory
	switch {
	case !d.locked && d.lockProblem != "" && d.unwritable == nil:
		return warn("not known: "+d.lockProblem, d.lockAdvice)
	case !d.locked:
		return ok("none runs here")
	case d.statusError == nil && !f.source().Matches(d.status.Source):
		return fail("one publishes "+d.status.Source+" here", "give each sidecar a volume of its own, or a directory of its own with --dir")
	default:
		return ok("one publishes this key here")
	}
}
