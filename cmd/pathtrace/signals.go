// SPDX-License-Identifier: Apache-2.0

// signals.go says what signals do: the first ends the trace and lets the
// verdict be printed, the second ends the process.

package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// sameSignal is how soon after the first a signal still counts as the same:
// timeout(1) sends its signal to the process and then to its group, so that it
// arrives twice.
const sameSignal = 250 * time.Millisecond

// signals acts on what the user or the system sends.
type signals struct {
	mu      sync.Mutex
	stop    func() // ends the trace in good order
	abandon func() // called before the process ends at once
	status  int    // exit status once the verdict was printed, else -1
	first   time.Time
}

// watchSignals starts acting on signals. SIGHUP counts as one too unless it is
// ignored (nohup). SIGPIPE is caught so that a reader that went away shows as
// an error of the write; a handler, unlike ignoring, is not inherited by the
// command.
func watchSignals(stop func()) *signals {
	s := &signals{stop: stop, abandon: func() {}, status: -1}
	asked := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		asked = append(asked, syscall.SIGHUP)
	}
	arrived := make(chan os.Signal, 4)
	signal.Notify(arrived, asked...)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		for range arrived {
			s.act()
		}
	}()
	return s
}

func (s *signals) act() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.first.IsZero() && s.status >= 0:
		os.Exit(s.status)
	case s.first.IsZero():
		s.first = now
		s.stop()
	case now.Sub(s.first) >= sameSignal:
		s.abandon()
		os.Exit(exitInterrupted)
	}
}

// onAbandon sets what is to be done before the process ends at once.
func (s *signals) onAbandon(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandon = do
}

// verdictPrinted tells that nothing is left but to detach: from now on the
// first signal ends the process too, with the status it would have had.
func (s *signals) verdictPrinted(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// received tells whether a signal has come.
func (s *signals) received() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.first.IsZero()
}
