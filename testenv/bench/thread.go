// SPDX-License-Identifier: Apache-2.0

// Threads: code that has to run in a network namespace or on one CPU gets an OS
// thread of its own, which ends with it. And what time a thread took.

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// anyCPU is for threads that may run everywhere.
const anyCPU = -1

// place is where a thread runs.
type place struct {
	netns *os.File // nil: where the process is
	cpu   int      // anyCPU, or its number
}

// onThread runs fn on an OS thread of its own, which ends with fn: nothing of
// what was changed for it is left in the process. The main thread is never
// taken, since /proc/self shows its namespace.
func onThread(p place, fn func() error) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		if unix.Gettid() == unix.Getpid() {
			errs <- onThread(p, fn) // this goroutine holds the main thread, so the next gets another
			runtime.UnlockOSThread()
			return
		}
		if err := p.enter(); err != nil {
			errs <- err
			return
		}
		errs <- fn()
	}()
	return <-errs
}

func (p place) enter() error {
	if p.netns != nil {
		if err := unix.Setns(int(p.netns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", p.netns.Name(), err)
		}
	}
	if p.cpu != anyCPU {
		var set unix.CPUSet
		set.Set(p.cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("keep a thread on CPU %d: %w", p.cpu, err)
		}
	}
	return nil
}

// self stands for the calling thread.
const self = 0

// threadTime is the CPU time of a thread of this process. Softirqs that ran on
// top of it are in it, unless the kernel has CONFIG_IRQ_TIME_ACCOUNTING.
func threadTime(tid int) (time.Duration, error) {
	clock := int32(unix.CLOCK_THREAD_CPUTIME_ID)
	if tid != self {
		clock = int32(^tid)<<3 | 6 // include/linux/posix-timers_types.h: CPUCLOCK_SCHED | CPUCLOCK_PERTHREAD_MASK
	}
	return cpuTime(clock, "a thread")
}

// processTime is the CPU time of a process, all its threads together.
func processTime(pid int) (time.Duration, error) {
	clock := int32(^pid)<<3 | 2 // include/linux/posix-timers_types.h: CPUCLOCK_SCHED
	return cpuTime(clock, fmt.Sprintf("process %d", pid))
}

// cpuTime reads a clock of what is named for an error.
func cpuTime(clock int32, of string) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, fmt.Errorf("read the CPU time of %s: %w", of, err)
	}
	return time.Duration(ts.Nano()), nil
}

const (
	calmStep  = 250 * time.Millisecond
	calmShare = 10 // calm when it takes less than this part of a CPU, or
	calmLimit = 10 * time.Second
)

// awaitCalm waits until a process that is ready has done what it has to do
// besides: reading names, giving memory back. A user's trace lasts longer than
// that; a slot may not, least of all on an emulated CPU. It gives the time it
// waited; one that never gets calm is measured as it is.
func awaitCalm(ctx context.Context, pid int) (time.Duration, error) {
	began := time.Now()
	last, err := processTime(pid)
	if err != nil {
		return 0, err
	}
	for time.Since(began) < calmLimit {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(calmStep):
		}
		now, err := processTime(pid)
		if err != nil {
			return 0, err
		}
		if now-last < calmStep/calmShare {
			break
		}
		last = now
	}
	return time.Since(began), nil
}

// CPUs gives the numbers of the CPUs that this process may use.
func CPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read which CPUs may be used: %w", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// LimitCPUs keeps this program, and all that it starts, on the first n of its
// CPUs: it begins anew where it has more. Call it first of all.
func LimitCPUs(n int) error {
	cpus, err := CPUs()
	if err != nil {
		return err
	}
	if n < 1 || n > len(cpus) {
		return fmt.Errorf("%d CPUs: this machine lets us use %d", n, len(cpus))
	}
	if n == len(cpus) {
		return nil
	}
	var set unix.CPUSet
	for _, cpu := range cpus[:n] {
		set.Set(cpu)
	}
	// A thread's CPUs outlive exec, which ends all other threads.
	runtime.LockOSThread()
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("keep to %d CPUs: %w", n, err)
	}
	return fmt.Errorf("begin anew on %d CPUs: %w", n, unix.Exec("/proc/self/exe", os.Args, os.Environ()))
}

// softirqd are the kernel threads that take over when softirqs become too many
// for the threads they interrupt: their time belongs to the traffic as well.
type softirqd []string

// findSoftirqd finds them; in a PID namespace of one's own there are none to be
// seen.
func findSoftirqd() (softirqd, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found softirqd
	for _, dir := range dirs {
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err == nil && strings.HasPrefix(string(name), "ksoftirqd/") {
			found = append(found, filepath.Join(dir, "schedstat"))
		}
	}
	return found, nil
}

// time is their CPU time (Documentation/scheduler/sched-stats.rst: the first of
// the three numbers, ns).
func (s softirqd) time() (time.Duration, error) {
	var sum time.Duration
	for _, file := range s {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, fmt.Errorf("read ksoftirqd's CPU time: %w", err)
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read ksoftirqd's CPU time from %s: %w", file, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}
