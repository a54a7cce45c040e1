package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snowkey/snowkey/internal/tools/testenv"
	"github.com/snowkey/snowkey/sidecar/internal/publish"
)

// Users of containers. OpenShift gives a container an arbitrary user in root's group, and the fsGroup of its namespace.
const (
	fsGroup       = 2000
	arbitraryUser = 1000680000
)

// inPod has the task's processes run in a pod, as this user, and gives the directory this owner and mode.
func (k *task) inPod(user credential, owner, group int, mode os.FileMode) {
	k.t.Helper()
	if os.Getuid() != 0 {
		k.t.Skip("only root runs processes as other users")
	}
	k.unprivileged()
	k.env["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
	k.user = &user
	k.must(os.Chown(k.dir, owner, group))
	k.must(os.Chmod(k.dir, mode))
}

// reads reports whether a program of another container reads the file or socket.
func (k *task) reads(user credential, name string) bool {
	k.t.Helper()
	reader := exec.Command("/bin/cat", filepath.Join(k.dir, name))
	if strings.HasSuffix(name, ".sock") {
		reader = exec.Command(k.program, "healthcheck", "--dir", k.dir) // which reads the socket
		reader.Env = []string{beSidecar + "=20s"}
	}
	reader.SysProcAttr = &syscall.SysProcAttr{Credential: &user}
	return reader.Run() == nil
}

// What the kubelet makes of an emptyDir, with and without an fsGroup, and other volumes that let the process write.
func TestPod_VolumeOfTheKubelet(t *testing.T) {
	t.Parallel()
	ours := credential{Uid: 65532, Gid: 65532, Groups: []uint32{65532}}
	for _, tc := range []struct {
		name       string
		user       credential
		group      int // of the directory
		mode       os.FileMode
		gid        uint32 // of the files
		reader     credential
		mayRead    bool
		directory  os.FileMode // of one of several keys
		noKubelets bool
	}{
		{name: "fsGroup is the process's group", user: ours, group: 65532, mode: 0o777 | os.ModeSetgid, gid: 65532,
			reader: credential{Uid: 1000, Gid: 1000, Groups: []uint32{65532}}, mayRead: true, directory: 0o755 | os.ModeSetgid},
		{name: "fsGroup is another group of it", user: credential{Uid: 65532, Gid: 65532, Groups: []uint32{fsGroup}}, group: fsGroup, mode: 0o777 | os.ModeSetgid, gid: fsGroup,
			reader: credential{Uid: 1000, Gid: 1000, Groups: []uint32{fsGroup}}, mayRead: true, directory: 0o755 | os.ModeSetgid},
		{name: "an arbitrary user", user: credential{Uid: arbitraryUser, Groups: []uint32{fsGroup}}, group: fsGroup, mode: 0o777 | os.ModeSetgid, gid: fsGroup,
			reader: credential{Uid: arbitraryUser + 1, Groups: []uint32{fsGroup}}, mayRead: true, directory: 0o755 | os.ModeSetgid},
		{name: "no fsGroup", user: ours, mode: 0o777, gid: 65532, reader: credential{Uid: 1000, Gid: 1000}, directory: 0o755},
		{name: "no fsGroup, and a reader in the process's group", user: ours, mode: 0o777, gid: 65532,
			reader: credential{Uid: 1000, Gid: 65532}, mayRead: true, directory: 0o755},
		{name: "a group that the process is not in", user: ours, group: fsGroup, mode: 0o777 | os.ModeSetgid, gid: 65532,
			reader: credential{Uid: 1000, Gid: fsGroup}, directory: 0o755},
		{name: "a group that may write", user: credential{Uid: arbitraryUser, Groups: []uint32{fsGroup}}, group: fsGroup, mode: 0o770 | os.ModeSetgid, gid: fsGroup,
			reader: credential{Uid: 1000, Gid: 1000, Groups: []uint32{fsGroup}}, mayRead: true, directory: 0o750 | os.ModeSetgid, noKubelets: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.inPod(tc.user, 0, tc.group, tc.mode)
			k.env["SNOWKEY_SERVE"] = "der"
			run := k.run()
			files := []string{"rsa_key.der", "rsa_key.pem", "rsa_key.der.sock"}
			before := map[string]uint64{}
			for _, name := range files {
				stat := k.stat(name)
				if stat.Uid != tc.user.Uid || stat.Gid != tc.gid {
					t.Errorf("%s is of %d:%d, want %d:%d", name, stat.Uid, stat.Gid, tc.user.Uid, tc.gid)
				}
				if k.reads(tc.reader, name) != tc.mayRead {
					t.Errorf("%d:%d%v reads %s: %v", tc.reader.Uid, tc.reader.Gid, tc.reader.Groups, name, !tc.mayRead)
				}
				before[name] = stat.Ino
			}
			k.do("healthcheck").want(exitDone)
			run.refresh()
			for _, name := range files {
				if k.stat(name).Ino != before[name] {
					t.Errorf("%s was written again", name)
				}
			}
			readers := ""
			for _, line := range k.do("doctor").checklist() {
				if strings.Contains(line, " readers: ") {
					readers = line
				}
			}
			// The directory of this test is on a disk.
			if !tc.noKubelets && (!strings.HasPrefix(readers, "warn ") || !strings.Contains(readers, "readOnly: true")) {
				t.Errorf("doctor says %q", readers)
			}
			k.ssm.Put(keyParameter, content(t, nextKey))
			run.refresh()
			run.follows(fingerprint(t, nextFingerprint))
			run.end(syscall.SIGTERM)

			s := several(t, "etl")
			s.inPod(tc.user, 0, tc.group, tc.mode)
			s.do("once").want(exitDone)
			info, err := os.Stat(filepath.Join(s.dir, "etl"))
			s.must(err)
			if info.Mode() != os.ModeDir|tc.directory {
				t.Errorf("the key's directory is %v, want %v", info.Mode(), os.ModeDir|tc.directory)
			}
			if stat := s.stat("etl/rsa_key.pem"); stat.Gid != tc.gid {
				t.Errorf("its file is of gid %d, want %d", stat.Gid, tc.gid)
			}
		})
	}
}

// Outside a pod a set-group-ID directory lets no further group read the key.
func TestVolume_SetGroupIDOutsideAPod(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"", "ECS_CONTAINER_METADATA_URI_V4"} {
		k := newTask(t)
		k.inPod(credential{Uid: 65532, Gid: 65532, Groups: []uint32{fsGroup}}, 0, fsGroup, 0o777|os.ModeSetgid)
		k.env["KUBERNETES_SERVICE_HOST"] = ""
		if platform != "" {
			k.env[platform] = "http://169.254.170.2/v4/x"
		}
		k.do("once").want(exitDone)
		if stat := k.stat("rsa_key.pem"); stat.Gid != 65532 {
			t.Errorf("with %s the file is of gid %d", platform, stat.Gid)
		}
	}
}

// A volume that the process cannot write in.
func TestPod_VolumeOfAnotherUser(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name         string
		user         credential
		owner, group int
		mode         os.FileMode
		says         string
	}{
		{"root's", credential{Uid: 65532, Gid: 65532}, 0, 0, 0o755, "set securityContext.fsGroup: 65532 in the pod's spec"},
		{"another container's", credential{Uid: 65532, Gid: 65532}, 1000, 1000, 0o700, "set securityContext.fsGroup: 65532 in the pod's spec"},
		{"root's, for an arbitrary user", credential{Uid: arbitraryUser}, 0, 0, 0o755, "set securityContext.fsGroup in the pod's spec"},
		{"a host's", credential{Uid: 65532, Gid: 65532}, 0, 0, 0o755, "a hostPath volume takes no fsGroup: chown 65532"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.inPod(tc.user, tc.owner, tc.group, tc.mode)
			k.do("once").want(exitFailed, "permission denied", tc.says)
			if doctor := k.do("doctor"); !strings.Contains(doctor.stdout.String(), tc.says) {
				t.Errorf("doctor does not say %q:\n%s", tc.says, &doctor.stdout)
			}
		})
	}
}

func (k *task) stat(name string) *syscall.Stat_t {
	k.t.Helper()
	info, err := os.Lstat(filepath.Join(k.dir, name))
	k.must(err)
	return info.Sys().(*syscall.Stat_t)
}

// What is wrong in a pod is said with the fields of its spec.
func TestPod_AdviceNamesFieldsOfItsSpec(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		spoil func(k *task)
		do    []string
		says  []string
	}{
		{"no volume", func(k *task) { k.must(os.RemoveAll(k.dir)) }, nil, []string{"no such file", "volumeMounts"}},
		{"no credentials", func(k *task) { unset("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")(k) }, nil,
			[]string{"no AWS credentials", "Pod Identity association", "eks.amazonaws.com/role-arn"}},
		{"no permission", func(k *task) { k.ssm.DenyParameter(keyParameter) }, nil,
			[]string{"allow ssm:GetParameters in the role of the pod's service account"}},
		{"a disk", func(k *task) {
			if publish.Filesystem(k.dir) == "tmpfs" {
				k.t.Skip("the directory for temporary files is itself a tmpfs")
			}
		}, []string{"once", "--require-tmpfs"}, []string{"emptyDir volume with medium: Memory", "drop --require-tmpfs"}},
		{"no CMD", func(*task) {}, []string{"exec"}, []string{`command ["/sidecar", "exec", "--"]`, "`args` has CMD"}},
		{"a CMD that is not there", func(*task) {}, []string{"exec", "--", "/app/none"}, []string{"no such file", "`args` of the container"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newTask(t)
			k.env["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
			tc.spoil(k)
			if tc.do == nil {
				tc.do = []string{"once"}
			}
			p := k.do(tc.do...)
			for _, words := range tc.says {
				if !strings.Contains(p.stderr.String(), words) {
					t.Errorf("it lacks %q:\n%s", words, &p.stderr)
				}
			}
			if text := p.stderr.String(); strings.Contains(text, "task role") || strings.Contains(text, "task definition") {
				t.Errorf("it has words of ECS:\n%s", &p.stderr)
			}
		})
	}
}

// A command's end is explained with the fields of the pod's spec.
func TestPod_AdviceAboutCMD(t *testing.T) {
	t.Parallel()
	k := newTask(t)
	k.env["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
	p := k.exec(nil, sh("kill -9 $$"))
	p.wait()
	p.want(137, "`resources.limits.memory` of the container, in the pod's spec")
}

// A volume in memory that is full, such as one with sizeLimit: 4Ki.
func TestPod_MemoryVolumeWithoutRoom(t *testing.T) {
	t.Parallel()
	testenv.Slow(t)
	k := newTask(t)
	k.env["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
	if err := syscall.Mount("tmpfs", k.dir, "tmpfs", 0, "size=4k,mode=0777"); err != nil {
		t.Skipf("no tmpfs of a size of its own here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(k.dir, unix.MNT_DETACH) })
	k.do("once").want(exitFailed, "no space left on device", "sizeLimit: 1Mi of the emptyDir")
	if left, err := filepath.Glob(filepath.Join(k.dir, "rsa_key*")); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	k.must(syscall.Mount("tmpfs", k.dir, "tmpfs", syscall.MS_REMOUNT, "size=1m"))
	k.do("once", "--require-tmpfs").want(exitDone, "published", "(tmpfs)")
}
