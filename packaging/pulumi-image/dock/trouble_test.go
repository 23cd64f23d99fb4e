// Copyright the Longshore authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func ptr[T any](v T) *T { return &v }

func TestTroubleStrikesWhatItWasAskedTo(t *testing.T) {
	fails := Trouble{Fail: ptr("broken")}
	for _, op := range operations {
		want := op == opCreate || op == opUpdate
		if got := fails.strike(t.Context(), op) != nil; got != want {
			t.Errorf("without `on`, %s fails: %v, want %v", op, got, want)
		}
	}
	fails.On = []string{"delete", "preview"}
	for _, op := range operations {
		want := op == opDelete || op == opPreview
		if got := fails.strike(t.Context(), op) != nil; got != want {
			t.Errorf("with `on`, %s fails: %v, want %v", op, got, want)
		}
	}
}

func TestAMisspeltOperationIsRefused(t *testing.T) {
	if err := (Trouble{On: []string{"create", "creat"}}).check(); err == nil || !strings.Contains(err.Error(), `"creat"`) {
		t.Errorf("got %v", err)
	}
	if err := (Trouble{On: []string{"create", "read"}}).check(); err != nil {
		t.Error(err)
	}
}

func TestTheMessageOfAFailureIsPassedOn(t *testing.T) {
	if err := (Trouble{Fail: ptr("the crane broke down")}).strike(t.Context(), opCreate); err == nil || err.Error() != "the crane broke down" {
		t.Errorf("got %v", err)
	}
	// An empty message is still a failure that was asked for.
	if err := (Trouble{Fail: ptr("")}).strike(t.Context(), opCreate); err == nil {
		t.Error("fail with an empty message did not fail")
	}
}

func TestADelayTakesItsTime(t *testing.T) {
	began := time.Now()
	if err := (Trouble{Delay: ptr(0.05)}).strike(t.Context(), opCreate); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

func TestACancellationEndsDelayAndHang(t *testing.T) {
	for name, trouble := range map[string]Trouble{"delay": {Delay: ptr(3600.0)}, "hang": {Hang: ptr(true)}} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := trouble.strike(ctx, opCreate); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s ended with %v", name, err)
		}
		cancel()
	}
}

func TestStubbornTroubleIgnoresTheCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	if err := (Trouble{Delay: ptr(0.05), Stubborn: ptr(true)}).strike(ctx, opCreate); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

func TestPrintMuchPrintsThatMuch(t *testing.T) {
	for _, n := range []int{0, 1, 11, 4095, 4096, 4097, 100_000} {
		total, lines := 0, map[string]bool{}
		printMuch(func(line string) { total += len(line); lines[line] = true }, n)
		if total != n {
			t.Errorf("asked for %d bytes, got %d", n, total)
		}
		if want := (n + 4095) / 4096; len(lines) != want {
			t.Errorf("asked for %d bytes, got %d different lines, want %d", n, len(lines), want)
		}
	}
}

// TestACrashEndsTheProcess is both the parent and the child that crashes.
func TestACrashEndsTheProcess(t *testing.T) {
	const child = "DOCK_TEST_CRASH"
	if os.Getenv(child) != "" {
		_ = Trouble{Crash: ptr(true)}.strike(t.Context(), opCreate)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestACrashEndsTheProcess$")
	cmd.Env = append(os.Environ(), child+"=1")
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != crashCode {
		t.Errorf("ended with %v, want exit code %d", err, crashCode)
	}
}
