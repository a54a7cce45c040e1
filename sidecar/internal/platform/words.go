package platform

import "fmt"

// The words below end in the field to change. Those of a pod are fields of its spec, by the names in its manifest.

func (p Platform) choose(task, pod string) string {
	if p == Pod {
		return pod
	}
	return task
}

// orElsewhere is as choose, with words of their own for a laptop, or a container that is neither of a task nor of a pod.
func (p Platform) orElsewhere(task, pod, elsewhere string) string {
	if p == Elsewhere {
		return elsewhere
	}
	return p.choose(task, pod)
}

// String names the platform in messages.
func (p Platform) String() string {
	switch p {
	case ECS:
		return "an ECS task"
	case Pod:
		return "a pod"
	default:
		return "neither an ECS task nor a pod"
	}
}

// Tasks names the readers of a key: what runs there, in the plural.
func (p Platform) Tasks() string { return p.choose("tasks", "pods") }

// Command names the field with CMD of `sidecar exec`.
func (p Platform) Command() string {
	return p.choose("`command` in the task definition", "`args` of the container, in the pod's spec")
}

// Start names the fields that decide how CMD starts.
func (p Platform) Start() string {
	return p.choose("`command`, `environment` or the image in the task definition", "`args`, `env` or the image of the container, in the pod's spec")
}

// EntryPoint says how to put `sidecar exec` before CMD.
func (p Platform) EntryPoint() string {
	return p.choose(`with entryPoint ["/sidecar", "exec", "--"] in the task definition, `+"`command` has CMD",
		`with command ["/sidecar", "exec", "--"] in the pod's spec, `+"`args` has CMD")
}

// User is the field with the container's user.
func (p Platform) User() string { return p.choose("`user`", "`runAsUser`") }

// Architecture is the field with the processors that the image was built for.
func (p Platform) Architecture() string {
	return p.choose("runtimePlatform in the task definition", "nodeSelector kubernetes.io/arch in the pod's spec")
}

// Memory is the field with the container's memory.
func (p Platform) Memory() string {
	return p.choose("`memory` in the task definition", "`resources.limits.memory` of the container, in the pod's spec")
}

// Processes are the fields that limit how many processes there can be.
func (p Platform) Processes() string {
	return p.choose("`memory`, or nproc in `ulimits`, in the task definition",
		"`resources.limits.memory` of the container, in the pod's spec, or podPidsLimit of the kubelet")
}

// Egress extends advice about a host that was not reached.
func (p Platform) Egress() string {
	return p.choose("", ", and egress to DNS and port 443 in the pod's NetworkPolicy")
}

// Kills says which program kills a container that does not end, and when.
func (p Platform) Kills() string {
	return p.choose("ECS kills it at stopTimeout, 30 s by default", "the kubelet kills it at terminationGracePeriodSeconds, 30 s by default")
}

// StopTime is the field with the time that a container has to end.
func (p Platform) StopTime() string {
	return p.choose("stopTimeout in the task definition", "terminationGracePeriodSeconds in the pod's spec")
}

// Mount is the advice if there is no directory dir.
func (p Platform) Mount(dir string) string {
	mount := "mount the shared volume at " + dir
	return p.orElsewhere(mount+" (mountPoints in the task definition)", mount+" (volumeMounts of the container, in the pod's spec)",
		"create the directory: mkdir "+dir+" (in a container, "+mount+")")
}

// MountReadWrite is the advice if the volume is mounted read-only.
func (p Platform) MountReadWrite() string {
	const inContainer = "mount the volume read-write in the sidecar's container"
	return p.orElsewhere(inContainer+" (readOnly: false in its mountPoints), read-only in the others",
		inContainer+" (readOnly: false in its volumeMounts), read-only in the others",
		"mount the file system read-write (in a container, "+inContainer+")")
}

// MountMemory is the advice if the volume has to be in memory, for a process of this user and group.
func (p Platform) MountMemory(uid, gid int) string {
	return p.choose("mount a tmpfs volume there with "+tmpfsOptions(uid, gid),
		"mount an emptyDir volume with medium: Memory and sizeLimit: 1Mi there, with securityContext.fsGroup"+group(gid)+" in the pod's spec")
}

// Remount is the advice if the volume lets in others than this user and group, or keeps the group out.
func (p Platform) Remount(uid, gid int) string {
	return p.choose("mount the volume with "+tmpfsOptions(uid, gid),
		"mount it with readOnly: true in the volumeMounts of all other containers, with securityContext.fsGroup"+group(gid)+" in the pod's spec")
}

// tmpfsOptions are the mount options of a tmpfs that belongs to the user and group.
func tmpfsOptions(uid, gid int) string {
	return fmt.Sprintf("size=1m,mode=0750,uid=%d,gid=%d,noexec,nosuid,nodev", uid, gid)
}

// group is the process's group in advice, "" for root's: OpenShift runs containers with root's group, and chooses the
// fsGroup itself.
func group(gid int) string {
	if gid == 0 {
		return ""
	}
	return fmt.Sprintf(": %d", gid)
}

// MakeWritable is the advice if the process of this user and group cannot write in the volume at dir.
func (p Platform) MakeWritable(dir string, uid, gid int) string {
	return p.orElsewhere(
		fmt.Sprintf("make the directory writable for uid %d: a tmpfs volume with %s, an image that declares VOLUME %s owned by that uid, or chown %d on the host's directory",
			uid, tmpfsOptions(uid, gid), dir, uid),
		fmt.Sprintf("make the volume writable for uid %d: set securityContext.fsGroup%s in the pod's spec, on an emptyDir with medium: Memory; "+
			"a hostPath volume takes no fsGroup: chown %d on the node's directory", uid, group(gid), uid),
		fmt.Sprintf("make the directory writable for uid %d: chown %d %s (in a container, a tmpfs volume with %s, or an image that declares VOLUME %s owned by that uid)",
			uid, uid, dir, tmpfsOptions(uid, gid), dir))
}

// MakeRoom is the advice if the volume is full.
func (p Platform) MakeRoom() string {
	return p.orElsewhere("make room in the volume: size=1m in the tmpfs's options has enough for every format",
		"make room in the volume: sizeLimit: 1Mi of the emptyDir has enough for every format",
		"make room in the file system: 1 MB is enough for every format (size=1m in the options of a tmpfs)")
}

// Role names the role that a process gets its credentials from.
func (p Platform) Role() string {
	return p.choose("the task role", "the role of the pod's service account")
}

// GiveRole is the advice if a process has no credentials.
func (p Platform) GiveRole() string {
	switch p {
	case Pod:
		return "give the pod's service account a role, by an EKS Pod Identity association or by its annotation eks.amazonaws.com/role-arn, " +
			"name it in serviceAccountName of the pod's spec, and start the pod again: what it gets is decided when it is created"
	case ECS:
		return "give the task a task role (taskRoleArn in the task definition)"
	default:
		return "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; in an ECS task give it a task role (taskRoleArn in the task definition)"
	}
}

// OnlyTheRole is the advice if a process has other credentials than its role's.
func (p Platform) OnlyTheRole() string {
	return p.choose("give the task a task role (taskRoleArn), and take other credentials out of the task definition",
		"give the service account a role (a Pod Identity association, or its annotation eks.amazonaws.com/role-arn), and take other credentials out of the pod's spec")
}
