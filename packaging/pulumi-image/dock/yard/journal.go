// Copyright the Longshore authors.
// SPDX-License-Identifier: Apache-2.0

package yard

import (
	"encoding/json"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// Operation is what the journal says about one operation.
type Operation struct {
	// Kind is create, read, update or delete.
	Kind string `json:"operation"`
	// Stack and Project are those of the program that asked for it.
	Stack   string `json:"stack"`
	Project string `json:"project"`
	// URN is the resource's, and Name the berth's.
	URN  string `json:"urn"`
	Name string `json:"name"`
}

// line is one line of the journal. Start and end of an operation differ in
// Phase, Time and Error and agree in all else.
type line struct {
	Time  time.Time `json:"time"`
	Phase string    `json:"phase"`
	Operation
	// Attempt is the host name of the process, which Longshore sets to the
	// attempt's own: it says which run wrote, even where all stacks, users and
	// process numbers look alike.
	Attempt string `json:"attempt"`
	PID     int    `json:"pid"`
	// ID is the operation's number within its process.
	ID    string `json:"id"`
	Error string `json:"error,omitempty"`
}

// maxError keeps a line short enough to be written at once.
const maxError = 1024

// count numbers the operations of this process.
var count atomic.Int64

// Entry is an operation whose start is in the journal.
type Entry struct {
	yard Yard
	line line
}

// Begin appends the start line. A start line without an end line is an operation
// whose process died; it is over when the process is.
func (y Yard) Begin(op Operation) (Entry, error) {
	host, err := os.Hostname()
	if err != nil {
		return Entry{}, err
	}
	if err := y.make(); err != nil {
		return Entry{}, err
	}
	e := Entry{y, line{
		Time:      time.Now().UTC(),
		Phase:     "start",
		Operation: op,
		Attempt:   host,
		PID:       os.Getpid(),
		ID:        strconv.FormatInt(count.Add(1), 10),
	}}
	return e, y.append(e.line)
}

// End appends the end line, with what went wrong if something did.
func (e Entry) End(failure error) error {
	l := e.line
	l.Time, l.Phase = time.Now().UTC(), "end"
	if failure != nil {
		l.Error = failure.Error()
		l.Error = l.Error[:min(len(l.Error), maxError)]
	}
	return e.yard.append(l)
}

// append writes one line with one call, which on a local file system with
// O_APPEND never mixes with what another process writes.
func (y Yard) append(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(y.Path(journalName), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
