package taskdef

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// A rule reports each way in which its subject breaks it.
type rule[T any] struct {
	name   string
	broken func(T) []string
}

// Broken names each rule that the example breaks, and how.
func (e *Example) Broken() []string {
	var all []string
	for _, d := range e.Definitions {
		all = append(all, broken(taskRules, task{d})...)
	}
	for _, p := range e.Policies {
		all = append(all, broken(policyRules, p)...)
	}
	for _, p := range e.Trusts {
		all = append(all, broken(trustRules, p)...)
	}
	for _, s := range e.Schedules {
		all = append(all, broken(scheduleRules, scheduled{s, e})...)
	}
	for _, s := range e.Services {
		all = append(all, broken(serviceRules, s)...)
	}
	for _, f := range e.Filters {
		all = append(all, broken(filterRules, filtered{f, e})...)
	}
	for _, a := range e.Alarms {
		all = append(all, broken(alarmRules, watched{a, e})...)
	}
	return append(all, broken(exampleRules, e)...)
}

func broken[T any](rules []rule[T], of T) []string {
	var all []string
	for _, r := range rules {
		for _, how := range r.broken(of) {
			all = append(all, r.name+": "+how)
		}
	}
	return all
}

var serviceRules = []rule[Service]{
	{"a service runs on the newest platform version, or on 1.4.0", func(s Service) []string {
		if s.PlatformVersion != "LATEST" && s.PlatformVersion != "1.4.0" {
			return []string{"platform version " + s.PlatformVersion}
		}
		return nil
	}},
	{"ECS Exec is off: it runs as root", func(s Service) []string {
		if s.ExecuteCommand {
			return []string{"execute command is on"}
		}
		return nil
	}},
}

var exampleRules = []rule[*Example]{
	{"a template with a schedule has an alarm on what it runs", func(e *Example) []string {
		if len(e.Definitions) > 0 && len(e.Schedules) > 0 && !slices.ContainsFunc(e.Alarms, e.Counted) {
			return []string{"no alarm"}
		}
		return nil
	}},
}

// A filtered is a metric filter and the example that holds it.
type filtered struct {
	MetricFilter
	in *Example
}

// succeeded are the results of a scheduled run that has done its work. An interrupted one ends with published or waiting.
var succeeded = []string{"rotated", "finished", "young", "nothing", "withdrawn", "overtaken"}

var filterRules = []rule[filtered]{
	{"a metric filter counts the summaries of this key's successful rotations", func(f filtered) []string {
		for _, d := range f.in.Definitions {
			for _, c := range (task{d}).rotators() {
				if f.Pattern == succeededPattern(setting(c, "SNOWKEY_KEY_PARAMETER")) && f.LogGroup == logGroup(c) && f.Value == "1" {
					return nil
				}
			}
		}
		return []string{f.LogGroup + ": " + f.Pattern}
	}},
	{"a metric filter's metric is of one service: a filter has no dimension for it", func(f filtered) []string {
		for _, service := range f.in.services() {
			if f.Namespace == "Snowkey" && f.Name == "RotationsSucceeded-"+service {
				return nil
			}
		}
		return []string{f.Namespace + " " + f.Name}
	}},
}

func succeededPattern(parameter string) string {
	var results []string
	for _, r := range succeeded {
		results = append(results, fmt.Sprintf("($.result = %q)", r))
	}
	return fmt.Sprintf("{ ($.parameter = %q) && (%s) }", parameter, strings.Join(results, " || "))
}

func logGroup(c types.ContainerDefinition) string {
	if c.LogConfiguration == nil {
		return ""
	}
	return c.LogConfiguration.Options["awslogs-group"]
}

// services are the services that the sidecar writes metrics for.
func (e *Example) services() []string {
	var all []string
	for _, d := range e.Definitions {
		for _, c := range (task{d}).publishers() {
			if service := setting(c, "SNOWKEY_EMF"); service != "" {
				all = append(all, service)
			}
		}
	}
	return all
}

// A watched is an alarm and the example that it is in.
type watched struct {
	Alarm
	in *Example
}

func (a watched) onRotations() bool { return a.in.Counted(a.Alarm) }

const (
	// longestGap is the longest time between two lines of metrics, in seconds, however rare refreshes are: six
	// minutes, and what a refresh takes.
	longestGap = 7 * 60

	// longestDay is the longest time between two successes of a daily rotation, in seconds: a day, a grace period of an
	// hour, and an hour for the start of the task and for retries.
	longestDay = 26 * 3600
	week       = 7 * 24 * 3600 // CloudWatch evaluates no more
)

var alarmRules = []rule[watched]{
	{"an alarm is about the sidecar's service, or about a metric filter's count", func(a watched) []string {
		ofService := a.Namespace == "Snowkey" && len(a.Dimensions) == 1 && slices.Contains(a.in.services(), a.Dimensions["Service"])
		if ofService || a.onRotations() {
			return nil
		}
		return []string{fmt.Sprintf("%s %s %v", a.Namespace, a.MetricName, a.Dimensions)}
	}},
	{"an alarm's period has at least one line in it, and the worst task counts", func(a watched) []string {
		if !a.onRotations() && (a.Period < longestGap || a.EvaluationPeriods != 1 || a.Statistic != "Maximum" || a.ComparisonOperator != "GreaterThanThreshold") {
			return []string{a.MetricName}
		}
		return nil
	}},
	{"an alarm on rotations needs more than a day without a success", func(a watched) []string {
		evaluated := a.Period * a.EvaluationPeriods
		none := a.Statistic == "Sum" && a.ComparisonOperator == "LessThanThreshold" && a.Threshold == 1
		if a.onRotations() && (a.Period != 3600 || evaluated < longestDay || evaluated > week || !none) {
			return []string{a.MetricName}
		}
		return nil
	}},
	{"no metric at all alarms like a missing refresh or rotation, but not like an old key", func(a watched) []string {
		if (a.MetricName == "MinutesLate" || a.onRotations()) != (a.TreatMissingData == "breaching") {
			return []string{a.MetricName + " with " + a.TreatMissingData}
		}
		return nil
	}},
	{"a topic can be notified of an alarm", func(a watched) []string {
		if !a.Actions {
			return []string{a.MetricName}
		}
		return nil
	}},
}

const (
	owner = "65532:65532"
	ecr   = ".dkr.ecr."
)

var (
	healthcheck = []string{"CMD", "/sidecar", "healthcheck"}
	execute     = []string{"/sidecar", "exec", "--"}

	// A digest, the word that stands for one, or a parameter of the template that has to be a digest.
	pinned = regexp.MustCompile(`@(sha256:(DIGEST|[0-9a-f]{64})|\$\{[^}]*[Dd]igest\})$`)

	// A number of days, or one that is known only at deployment.
	age = regexp.MustCompile(`^([1-9][0-9]*|\$\{\w+\})d$`)

	// In memory alone is not enough: nobody runs a program there, or takes part of the host's memory.
	tmpfsOptions = []string{"noexec", "nosuid", "nodev"}
)

var taskRules = []rule[task]{
	{"on Fargate, containers share ephemeral storage and nothing else", func(t task) []string {
		var all []string
		for _, v := range t.Volumes {
			if t.fargate() && (v.DockerVolumeConfiguration != nil || v.Host != nil || v.EfsVolumeConfiguration != nil ||
				v.FsxWindowsFileServerVolumeConfiguration != nil || aws.ToBool(v.ConfiguredAtLaunch)) {
				all = append(all, "volume "+aws.ToString(v.Name))
			}
		}
		return all
	}},
	{"nothing waits for the end of an essential container", func(t task) []string {
		return t.each(func(c types.ContainerDefinition) string {
			for _, d := range c.DependsOn {
				target := t.container(aws.ToString(d.ContainerName))
				ends := d.Condition == types.ContainerConditionSuccess || d.Condition == types.ContainerConditionComplete
				if ends && (target == nil || target.Essential == nil || *target.Essential) {
					return "waits for " + string(d.Condition) + " of " + aws.ToString(d.ContainerName)
				}
			}
			return ""
		})
	}},
	{"one container has the sidecar's settings, and its health is a valid key", func(t task) []string {
		publishers := t.publishers()
		if len(publishers) == 0 && len(t.rotators()) == 1 {
			return nil // a task that publishes nothing
		}
		if len(publishers) != 1 {
			return []string{fmt.Sprintf("%d containers have them", len(publishers))}
		}
		h := publishers[0].HealthCheck
		if h == nil || !slices.Equal(h.Command, healthcheck) {
			return []string{"its health check is not /sidecar healthcheck"}
		}
		if !within(h.Interval, 5, 300) || !within(h.Timeout, 2, 60) || !within(h.Retries, 1, 10) || !within(h.StartPeriod, 0, 300) {
			return []string{"ECS does not take the times of its health check"}
		}
		if lasts := aws.ToInt32(h.Interval) * aws.ToInt32(h.Retries); setting(publishers[0], "SNOWKEY_FORMATS") == "none" && lasts < 300 {
			return []string{fmt.Sprintf("its health check fails for %d s until ECS ends the task, and a key in memory alone is missing in an outage", lasts)}
		}
		return nil
	}},
	{"a reader waits until the sidecar is healthy", func(t task) []string {
		return t.eachReader(func(c, sidecar types.ContainerDefinition) string {
			for _, d := range c.DependsOn {
				if aws.ToString(d.ContainerName) == aws.ToString(sidecar.Name) && d.Condition == types.ContainerConditionHealthy {
					return ""
				}
			}
			return "does not"
		})
	}},
	{"every image is named by its digest", func(t task) []string {
		return t.each(func(c types.ContainerDefinition) string {
			if image := aws.ToString(c.Image); !pinned.MatchString(image) || !strings.Contains(image, ecr) {
				return image
			}
			return ""
		})
	}},
	{"a path is the same on both sides of a mount", func(t task) []string {
		return t.each(func(c types.ContainerDefinition) string {
			for _, m := range c.MountPoints {
				volume := aws.ToString(m.SourceVolume)
				if !t.hasVolume(volume) {
					return "mounts " + volume + ", which is no volume"
				}
				if at := aws.ToString(m.ContainerPath); t.mountedAt(volume) != at {
					return "mounts " + volume + " at " + at + ", another at " + t.mountedAt(volume)
				}
			}
			return ""
		})
	}},
	{"the sidecar publishes into a mount that it may write", func(t task) []string {
		return t.eachPublisher(func(c types.ContainerDefinition) string {
			dir := publishedIn(c)
			if at, m := mountAt(c, dir); !at || m.readOnly {
				return "publishes in " + dir
			}
			return ""
		})
	}},
	{"a reader mounts the key's volume read-only, and finds the PEM there, or a socket", func(t task) []string {
		return t.eachReader(func(c, sidecar types.ContainerDefinition) string {
			dir, file, home := publishedIn(sidecar), setting(c, "SNOWFLAKE_PRIVATE_KEY_PATH"), setting(c, "SNOWFLAKE_HOME")
			if at, m := mountAt(c, dir); !at || !m.readOnly {
				return "does not mount " + dir + " read-only"
			}
			if file == "" && home == dir && setting(sidecar, "SNOWKEY_CONNECTIONS") == "true" {
				return ""
			}
			return readsKey(file, sidecar)
		})
	}},
	{"a program beside its own key is started by sidecar exec, and reads the PEM, or a socket", func(t task) []string {
		if len(t.readers()) > 0 {
			return nil
		}
		return t.eachPublisher(func(c types.ContainerDefinition) string {
			if !slices.Equal(c.EntryPoint, execute) || len(c.Command) == 0 {
				return fmt.Sprintf("starts %q %q", c.EntryPoint, c.Command)
			}
			return readsKey(setting(c, "SNOWFLAKE_PRIVATE_KEY_PATH"), c)
		})
	}},
	{"where the key can be in memory, the sidecar requires that", func(t task) []string {
		return t.eachPublisher(func(c types.ContainerDefinition) string {
			inMemory := t.inMemory(c, publishedIn(c))
			if required := setting(c, "SNOWKEY_REQUIRE_TMPFS") == "true"; required != inMemory {
				return fmt.Sprintf("in memory: %v, required: %v", inMemory, required)
			}
			return ""
		})
	}},
	{"a tmpfs is small, and nothing is run from it", func(t task) []string {
		all := t.each(func(c types.ContainerDefinition) string {
			if c.LinuxParameters == nil {
				return ""
			}
			for _, m := range c.LinuxParameters.Tmpfs {
				if !slices.Equal(m.MountOptions, tmpfsOptions) || m.Size < 1 || m.Size > 64 {
					return aws.ToString(m.ContainerPath)
				}
			}
			return ""
		})
		for _, v := range t.Volumes {
			want := "size=1m,mode=0750,uid=65532,gid=65532," + strings.Join(tmpfsOptions, ",")
			if d := v.DockerVolumeConfiguration; d != nil && (d.DriverOpts["o"] != want || aws.ToString(d.Driver) != "local" || d.Scope != types.ScopeTask) {
				all = append(all, "volume "+aws.ToString(v.Name))
			}
		}
		return all
	}},
	{"a container is essential, is not root, and has no capability and no disk of its own to write on", func(t task) []string {
		return t.each(func(c types.ContainerDefinition) string {
			l := c.LinuxParameters
			switch {
			case !aws.ToBool(c.Essential):
				return "not essential"
			case aws.ToString(c.User) != owner:
				return "user " + aws.ToString(c.User)
			case !aws.ToBool(c.ReadonlyRootFilesystem):
				return "writable root file system"
			case l == nil || l.Capabilities == nil || !slices.Equal(l.Capabilities.Drop, []string{"ALL"}) || len(l.Capabilities.Add) > 0:
				return "keeps capabilities"
			case aws.ToBool(c.Privileged):
				return "privileged"
			}
			return ""
		})
	}},
	{"no container sees into another", func(t task) []string {
		if t.PidMode != "" || t.IpcMode != "" || t.NetworkMode != types.NetworkModeAwsvpc {
			return []string{"pidMode, ipcMode or networkMode"}
		}
		return t.each(func(c types.ContainerDefinition) string {
			if len(c.VolumesFrom) > 0 {
				return "volumesFrom"
			}
			return ""
		})
	}},
	{"on Fargate, a task has one of Fargate's sizes", func(t task) []string {
		cpu, memory := aws.ToString(t.Cpu), aws.ToString(t.Memory)
		if t.fargate() && (cpu != "256" || !slices.Contains([]string{"512", "1024", "2048"}, memory)) { // of the smallest
			return []string{"cpu " + cpu + ", memory " + memory}
		}
		return nil
	}},
	{"a container that runs on restarts, and each has time to end and logs to CloudWatch", func(t task) []string {
		return t.each(func(c types.ContainerDefinition) string {
			r, l := c.RestartPolicy, c.LogConfiguration
			switch {
			case rotates(c): // ends by itself
			case r == nil || !aws.ToBool(r.Enabled) || aws.ToInt32(r.RestartAttemptPeriod) < 60 || *r.RestartAttemptPeriod > 1800:
				return "restartPolicy"
			}
			switch stop := aws.ToInt32(c.StopTimeout); {
			case stop < 2 || stop > 120:
				return "stopTimeout"
			case l == nil || l.LogDriver != types.LogDriverAwslogs ||
				l.Options["awslogs-group"] == "" || l.Options["awslogs-region"] == "" || l.Options["awslogs-stream-prefix"] == "":
				return "logConfiguration"
			}
			return ""
		})
	}},
	{"the sidecar does not restart with wrong settings", func(t task) []string {
		return t.eachPublisher(func(c types.ContainerDefinition) string {
			if c.RestartPolicy != nil && !slices.Contains(c.RestartPolicy.IgnoredExitCodes, 2) {
				return "exit code 2"
			}
			return ""
		})
	}},
	{"a rotation has a login and a role, time to complete a change, and is repeated by its schedule alone", func(t task) []string {
		return eachOf(t.rotators(), func(c types.ContainerDefinition) string {
			switch {
			case setting(c, "SNOWFLAKE_ACCOUNT") == "" || setting(c, "SNOWFLAKE_USER") == "":
				return "no login"
			case t.TaskRoleArn == nil:
				return "no task role"
			case aws.ToInt32(c.StopTimeout) < 100: // it gives itself 90 seconds for a change
				return "stopTimeout"
			case c.RestartPolicy != nil: // while there is no way to Snowflake, each day would leave one more that runs on
				return "restartPolicy"
			}
			return ""
		})
	}},
	{"a rotation has its maximum age in the command, which another command replaces", func(t task) []string {
		return eachOf(t.rotators(), func(c types.ContainerDefinition) string {
			if len(c.Command) != 3 || c.Command[1] != "--max-age" || !age.MatchString(c.Command[2]) {
				return fmt.Sprintf("%q", c.Command)
			}
			if setting(c, "SNOWKEY_MAX_AGE") != "" { // rotate --force-new would refuse it
				return "SNOWKEY_MAX_AGE"
			}
			return ""
		})
	}},
	{"a secret is the ARN of a parameter, never a value", func(t task) []string {
		return t.each(func(c types.ContainerDefinition) string {
			for _, secret := range []string{"SECRET_KEY", "SNOWKEY_SECRET_KEY", "PRIVATE_KEY_PASSPHRASE"} {
				if setting(c, secret) != "" {
					return secret
				}
			}
			for _, s := range c.Secrets {
				if !strings.HasPrefix(aws.ToString(s.ValueFrom), "arn:") {
					return aws.ToString(s.Name)
				}
			}
			return ""
		})
	}},
	{"a sidecar that fetches the key has a role for it", func(t task) []string {
		if t.ExecutionRoleArn == nil {
			return []string{"no execution role"}
		}
		return t.eachPublisher(func(c types.ContainerDefinition) string {
			if fetches := setting(c, "SNOWKEY_KEY_PARAMETER") != ""; fetches != (t.TaskRoleArn != nil) {
				return fmt.Sprintf("fetches: %v, task role: %v", fetches, t.TaskRoleArn != nil)
			}
			return ""
		})
	}},
	{"on EC2, a sidecar that fetches the key has the Region in its environment: not every agent sets it", func(t task) []string {
		return t.eachPublisher(func(c types.ContainerDefinition) string {
			if t.ec2() && setting(c, "SNOWKEY_KEY_PARAMETER") != "" && setting(c, "AWS_REGION") == "" {
				return "no AWS_REGION"
			}
			return ""
		})
	}},
}

// A task is a definition with what the rules ask of it.
type task struct{ Definition }

func (t task) fargate() bool {
	return slices.Contains(t.RequiresCompatibilities, types.CompatibilityFargate)
}

// ec2 is also what a definition without compatibilities may run on.
func (t task) ec2() bool {
	return len(t.RequiresCompatibilities) == 0 || slices.Contains(t.RequiresCompatibilities, types.CompatibilityEc2)
}

func (t task) container(name string) *types.ContainerDefinition {
	for i, c := range t.ContainerDefinitions {
		if aws.ToString(c.Name) == name {
			return &t.ContainerDefinitions[i]
		}
	}
	return nil
}

// publishers are the containers in which the sidecar runs.
func (t task) publishers() []types.ContainerDefinition {
	var all []types.ContainerDefinition
	for _, c := range t.ContainerDefinitions {
		if (setting(c, "SNOWKEY_KEY_PARAMETER") != "" || hasSecret(c, "SECRET_KEY")) && !rotates(c) {
			all = append(all, c)
		}
	}
	return all
}

// rotators are the containers in which `sidecar rotate` runs.
func (t task) rotators() []types.ContainerDefinition {
	var all []types.ContainerDefinition
	for _, c := range t.ContainerDefinitions {
		if rotates(c) {
			all = append(all, c)
		}
	}
	return all
}

func rotates(c types.ContainerDefinition) bool { return len(c.Command) > 0 && c.Command[0] == "rotate" }

// readers are the other containers: in each example they are there to read the key.
func (t task) readers() []types.ContainerDefinition {
	var all []types.ContainerDefinition
	for _, c := range t.ContainerDefinitions {
		if setting(c, "SNOWKEY_KEY_PARAMETER") == "" && !hasSecret(c, "SECRET_KEY") {
			all = append(all, c)
		}
	}
	return all
}

func (t task) each(wrong func(types.ContainerDefinition) string) []string {
	return eachOf(t.ContainerDefinitions, wrong)
}

func (t task) eachPublisher(wrong func(types.ContainerDefinition) string) []string {
	return eachOf(t.publishers(), wrong)
}

func (t task) eachReader(wrong func(c, sidecar types.ContainerDefinition) string) []string {
	publishers := t.publishers()
	if len(publishers) == 0 {
		return nil // which is against a rule of its own
	}
	return eachOf(t.readers(), func(c types.ContainerDefinition) string { return wrong(c, publishers[0]) })
}

func within(n *int32, least, most int32) bool {
	return n == nil || *n >= least && *n <= most // without one, ECS takes its own
}

func eachOf(containers []types.ContainerDefinition, wrong func(types.ContainerDefinition) string) []string {
	var all []string
	for _, c := range containers {
		if w := wrong(c); w != "" {
			all = append(all, aws.ToString(c.Name)+": "+w)
		}
	}
	return all
}

func (t task) hasVolume(name string) bool {
	return slices.ContainsFunc(t.Volumes, func(v types.Volume) bool { return aws.ToString(v.Name) == name })
}

// mountedAt is the path at which the first container mounts the volume.
func (t task) mountedAt(volume string) string {
	for _, c := range t.ContainerDefinitions {
		for _, m := range c.MountPoints {
			if aws.ToString(m.SourceVolume) == volume {
				return aws.ToString(m.ContainerPath)
			}
		}
	}
	return ""
}

func (t task) inMemory(c types.ContainerDefinition, dir string) bool {
	_, m := mountAt(c, dir)
	if m.volume == "" {
		return m.tmpfs
	}
	return slices.ContainsFunc(t.Volumes, func(v types.Volume) bool {
		d := v.DockerVolumeConfiguration
		return aws.ToString(v.Name) == m.volume && d != nil && d.DriverOpts["type"] == "tmpfs" && d.DriverOpts["device"] == "tmpfs"
	})
}

// A mount is what a container has at a path.
type mount struct {
	volume   string // empty for a tmpfs of the container's own
	readOnly bool
	tmpfs    bool
}

func mountAt(c types.ContainerDefinition, dir string) (bool, mount) {
	for _, m := range c.MountPoints {
		if aws.ToString(m.ContainerPath) == dir {
			return true, mount{volume: aws.ToString(m.SourceVolume), readOnly: aws.ToBool(m.ReadOnly)}
		}
	}
	if c.LinuxParameters != nil {
		for _, m := range c.LinuxParameters.Tmpfs {
			if aws.ToString(m.ContainerPath) == dir {
				return true, mount{tmpfs: true}
			}
		}
	}
	return false, mount{}
}

func publishedIn(c types.ContainerDefinition) string {
	if dir := setting(c, "SNOWKEY_DIR"); dir != "" {
		return path.Clean(dir)
	}
	return keyfile.DefaultDir
}

// readsKey: every client that takes a path reads the PEM; only the Go helper reads the DER as well. A socket is for programs
// that read it, of any format.
func readsKey(file string, publisher types.ContainerDefinition) string {
	dir, name := path.Split(file)
	files := formats(publisher, "SNOWKEY_FORMATS", "der,pem")
	sockets := formats(publisher, "SNOWKEY_SERVE", "")
	found := name == keyfile.PEM.FileName() && slices.Contains(files, keyfile.PEM) ||
		slices.ContainsFunc(sockets, func(f keyfile.Format) bool { return f.SocketName() == name })
	if path.Clean(dir) != publishedIn(publisher) || !found {
		return "reads " + file
	}
	return ""
}

// formats are the formats that the container's setting names.
func formats(c types.ContainerDefinition, variable, preset string) (all []keyfile.Format) {
	for name := range strings.SplitSeq(cmp.Or(setting(c, variable), preset), ",") {
		// The sidecar's own settings refuse an unknown format.
		if f, err := keyfile.ParseFormat(strings.TrimSpace(name)); err == nil {
			all = append(all, f)
		}
	}
	return all
}

func setting(c types.ContainerDefinition, name string) string {
	for _, v := range c.Environment {
		if aws.ToString(v.Name) == name {
			return aws.ToString(v.Value)
		}
	}
	return ""
}

func hasSecret(c types.ContainerDefinition, name string) bool {
	return slices.ContainsFunc(c.Secrets, func(s types.Secret) bool { return aws.ToString(s.Name) == name })
}
