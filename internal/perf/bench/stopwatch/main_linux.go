// Command stopwatch starts a program and prints what it took until a file was there: microseconds of the clock,
// microseconds of the processor, and the most memory that was resident, in KiB.
//
//	stopwatch [-end] FILE PROGRAM ARGUMENT...
//
// It is small and a process of its own because a process begins with the peak of the one that starts it.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// within is how long a program may take.
const within = time.Minute

func main() {
	end := flag.Bool("end", false, "end the program when the file is there, instead of waiting until it ends")
	flag.Parse()
	if err := run(*end, flag.Arg(0), flag.Args()[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stopwatch:", err)
		os.Exit(1)
	}
}

func run(end bool, file string, command []string) error {
	appeared, err := watch(file)
	if err != nil {
		return err
	}
	cmd := exec.Command(command[0], command[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	late := time.AfterFunc(within, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	var at time.Time
	if end {
		select {
		case at = <-appeared:
			_ = cmd.Process.Kill()
			if err := <-ended; err == nil {
				return errors.New("it ended by itself")
			}
		case err := <-ended:
			return fmt.Errorf("it ended without the file: %w: %s", err, &stderr)
		}
	} else {
		if err := <-ended; err != nil {
			return fmt.Errorf("%w: %s", err, &stderr)
		}
		select {
		case at = <-appeared:
		case <-time.After(time.Second):
			return errors.New("it ended without the file")
		}
	}
	used := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	fmt.Println(at.Sub(began).Microseconds(), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Microseconds(), used.Maxrss)
	return nil
}

// watch tells when the file is whole: renamed into place, or closed by who wrote it.
func watch(file string) (<-chan time.Time, error) {
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(inotify, filepath.Dir(file), unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE); err != nil {
		return nil, err
	}
	appeared := make(chan time.Time, 1)
	go func() {
		events := make([]byte, 4096)
		for {
			n, err := unix.Read(inotify, events)
			now := time.Now()
			if err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
			if about(events[:max(n, 0)], filepath.Base(file)) {
				appeared <- now
				return
			}
		}
	}()
	return appeared, nil
}

// about reports whether one of inotify's events is about the name.
func about(events []byte, name string) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		event := (*unix.InotifyEvent)(unsafe.Pointer(&events[0]))
		rest := events[unix.SizeofInotifyEvent:]
		if string(bytes.TrimRight(rest[:event.Len], "\x00")) == name {
			return true
		}
		events = rest[event.Len:]
	}
	return false
}
