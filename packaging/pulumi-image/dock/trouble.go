// Copyright the Longshore authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
)

// operation names what the engine asked for, in the journal and in `on`.
type operation string

const (
	opPreview operation = "preview"
	opCreate  operation = "create"
	opRead    operation = "read"
	opUpdate  operation = "update"
	opDelete  operation = "delete"
)

// operations is every value that `on` accepts.
var operations = []operation{opPreview, opCreate, opRead, opUpdate, opDelete}

// crashCode is the exit code of a provider that was told to crash, unlike any
// that the Go runtime or a signal would give.
const crashCode = 86

// Trouble is what can go wrong with a real provider, on request. It strikes
// before the work is done, in the order of the fields.
type Trouble struct {
	On         []string `pulumi:"on,optional"`
	PrintBytes *int     `pulumi:"printBytes,optional"`
	Delay      *float64 `pulumi:"delay,optional"`
	Hang       *bool    `pulumi:"hang,optional"`
	Stubborn   *bool    `pulumi:"stubborn,optional"`
	Crash      *bool    `pulumi:"crash,optional"`
	Fail       *string  `pulumi:"fail,optional"`
}

// Annotate describes the inputs that ask for trouble.
func (t *Trouble) Annotate(a infer.Annotator) {
	a.Describe(&t.On, "Which operations the trouble below strikes: any of preview, create, read, update, delete. "+
		"Without it: create and update.")
	a.Describe(&t.PrintBytes, "Log this many bytes.")
	a.Describe(&t.Delay, "Wait this many seconds, or until the operation is cancelled.")
	a.Describe(&t.Hang, "Wait until the operation is cancelled.")
	a.Describe(&t.Stubborn, "Let delay and hang ignore the cancellation.")
	a.Describe(&t.Crash, "End the provider's process on the spot.")
	a.Describe(&t.Fail, "Fail with this message.")
}

// check refuses an operation that does not exist: a misspelt one would never strike.
func (t Trouble) check() error {
	for _, on := range t.On {
		if !slices.Contains(operations, operation(on)) {
			return fmt.Errorf("%q is no operation: use any of %v", on, operations)
		}
	}
	return nil
}

// strikes says whether op is one of those that were asked for.
func (t Trouble) strikes(op operation) bool {
	if len(t.On) == 0 {
		return op == opCreate || op == opUpdate
	}
	return slices.Contains(t.On, string(op))
}

// strike lets everything happen that was asked for op.
func (t Trouble) strike(ctx context.Context, op operation) error {
	if !t.strikes(op) {
		return nil
	}
	if is(t.Stubborn) {
		ctx = context.WithoutCancel(ctx)
	}
	if t.PrintBytes != nil {
		printMuch(p.GetLogger(ctx).Info, *t.PrintBytes)
	}
	if t.Delay != nil {
		if err := wait(ctx, time.After(time.Duration(*t.Delay*float64(time.Second)))); err != nil {
			return err
		}
	}
	if is(t.Hang) {
		return wait(ctx, nil)
	}
	if is(t.Crash) {
		os.Exit(crashCode)
	}
	if t.Fail != nil {
		return errors.New(*t.Fail)
	}
	return nil
}

// wait returns nil when until fires and an error when ctx ends first. A nil until
// never fires.
func wait(ctx context.Context, until <-chan time.Time) error {
	select {
	case <-until:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
}

// printMuch logs n bytes in numbered lines, so that a missing one shows.
func printMuch(log func(string), n int) {
	const line = 4096
	for i := 0; n > 0; i++ {
		text := fmt.Sprintf("%010d ", i)
		text += strings.Repeat("~", line-len(text))
		text = text[:min(n, line)]
		log(text)
		n -= len(text)
	}
}

// is reads an optional flag.
func is(flag *bool) bool { return flag != nil && *flag }
