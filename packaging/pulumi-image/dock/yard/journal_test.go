// Copyright the Longshore authors.
// SPDX-License-Identifier: Apache-2.0

package yard

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// lines reads the whole journal and fails on any line that is not whole.
func lines(t *testing.T, y Yard) []line {
	t.Helper()
	text, err := os.ReadFile(y.Path(journalName))
	must(t, err)
	var found []line
	for text := range bytes.Lines(text) {
		if !bytes.HasSuffix(text, []byte("\n")) {
			t.Fatalf("torn line %q", text)
		}
		var l line
		must(t, json.Unmarshal(text, &l))
		found = append(found, l)
	}
	return found
}

var operation = Operation{
	Kind: "create", Stack: "dev", Project: "shop",
	URN: "urn:pulumi:dev::shop::dock:index:Berth::a", Name: "a",
}

func TestTheJournalSaysWhoDidWhatAndWhen(t *testing.T) {
	y := fresh(t)
	before := time.Now()
	e, err := y.Begin(operation)
	must(t, err)
	must(t, e.End(nil))
	found := lines(t, y)
	if len(found) != 2 {
		t.Fatalf("%d lines, want 2", len(found))
	}
	host, err := os.Hostname()
	must(t, err)
	for i, phase := range []string{"start", "end"} {
		l := found[i]
		if l.Phase != phase || l.Operation != operation || l.Attempt != host || l.PID != os.Getpid() || l.Error != "" {
			t.Errorf("line %d is %+v", i, l)
		}
		if l.Time.Before(before.Truncate(0)) || l.Time.After(time.Now()) {
			t.Errorf("line %d says %v", i, l.Time)
		}
	}
	if found[0].ID != found[1].ID || found[1].Time.Before(found[0].Time) {
		t.Errorf("start and end do not belong together: %+v", found)
	}
}

func TestOperationsHaveNumbersOfTheirOwn(t *testing.T) {
	y := fresh(t)
	a, err := y.Begin(operation)
	must(t, err)
	b, err := y.Begin(operation)
	must(t, err)
	must(t, a.End(nil))
	must(t, b.End(nil))
	found := lines(t, y)
	if found[0].ID == found[1].ID || found[0].ID != found[2].ID || found[1].ID != found[3].ID {
		t.Errorf("%+v", found)
	}
}

func TestAFailureIsNotedInFewWords(t *testing.T) {
	y := fresh(t)
	e, err := y.Begin(operation)
	must(t, err)
	must(t, e.End(errors.New("line one\nline two "+strings.Repeat("x", 1<<20))))
	found := lines(t, y)
	if len(found) != 2 || !strings.HasPrefix(found[1].Error, "line one\nline two xxx") || len(found[1].Error) > maxError {
		t.Errorf("%+v", found)
	}
}

func TestAJournalThatCannotBeWrittenIsAnError(t *testing.T) {
	y := fresh(t)
	must(t, os.MkdirAll(y.Path(journalName), 0o777))
	if _, err := y.Begin(operation); err == nil {
		t.Error("an operation began without its line")
	}
}

// childYard names the yard that a copy of this test binary is to write to.
const childYard = "DOCK_TEST_CHILD_YARD"

// TestManyProcessesNeverTearALine starts copies of this test that all write to one
// journal. It is both sides: the environment says which.
func TestManyProcessesNeverTearALine(t *testing.T) {
	const processes, operations = 8, 200
	if y := os.Getenv(childYard); y != "" {
		for range operations {
			e, err := Yard(y).Begin(operation)
			must(t, err)
			must(t, e.End(nil))
		}
		return
	}
	y := fresh(t)
	children := make([]*exec.Cmd, processes)
	for i := range children {
		children[i] = exec.Command(os.Args[0], "-test.run=^TestManyProcessesNeverTearALine$")
		children[i].Env = append(os.Environ(), childYard+"="+string(y))
		must(t, children[i].Start())
	}
	for _, child := range children {
		must(t, child.Wait())
	}
	type key struct {
		pid       int
		id, phase string
	}
	seen := map[key]int{}
	for _, l := range lines(t, y) {
		seen[key{l.PID, l.ID, l.Phase}]++
	}
	if len(seen) != processes*operations*2 {
		t.Errorf("%d different lines, want %d", len(seen), processes*operations*2)
	}
}
