// Copyright the Longshore authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"

	"longshore/pulumi-image/dock/yard"
)

// Berth is the controller of the resource dock:index:Berth.
//
// Diff is the framework's own: inputs are compared with the inputs of the last
// operation (or, after a refresh, with what Read found), `name` forces a
// replacement, anything else is an update.
type Berth struct{}

// BerthArgs is what a program says about a berth.
type BerthArgs struct {
	Name    string `pulumi:"name" provider:"replaceOnChanges"`
	Content string `pulumi:"content"`
	Trouble
	SecretOutput *string `pulumi:"secretOutput,optional" provider:"secret"`
}

// BerthState is what is known about a berth after an operation.
type BerthState struct {
	BerthArgs
	Path   string  `pulumi:"path"`
	SHA256 string  `pulumi:"sha256"`
	Secret *string `pulumi:"secret,optional" provider:"secret"`
}

// Annotate describes the resource in the provider's schema.
func (b *Berth) Annotate(a infer.Annotator) {
	// In the module `index` programs may write dock:Berth for it.
	a.SetToken("index", "Berth")
	a.Describe(&b, "A berth in the yard: a file with a name and a content, and whatever trouble is asked for.")
}

// Annotate describes the inputs.
func (b *BerthArgs) Annotate(a infer.Annotator) {
	a.Describe(&b.Name, "Name of the file in the yard. A change replaces the berth.")
	a.Describe(&b.Content, "What stands in the file.")
	a.Describe(&b.SecretOutput, "Returned as the output `secret`, and marked as a secret in both places.")
}

// Annotate describes the outputs.
func (b *BerthState) Annotate(a infer.Annotator) {
	a.Describe(&b.Path, "Where the file is.")
	a.Describe(&b.SHA256, "SHA-256 of the file's content, in hexadecimal.")
	a.Describe(&b.Secret, "What `secretOutput` was, as a secret.")
}

// WireDependencies says which outputs follow from which inputs, so that a preview
// of a changed content still knows the path.
func (Berth) WireDependencies(f infer.FieldSelector, args *BerthArgs, state *BerthState) {
	f.OutputField(&state.Name).DependsOn(f.InputField(&args.Name))
	f.OutputField(&state.Content).DependsOn(f.InputField(&args.Content))
	f.OutputField(&state.Path).DependsOn(f.InputField(&args.Name))
	f.OutputField(&state.SHA256).DependsOn(f.InputField(&args.Content))
	f.OutputField(&state.SecretOutput).AlwaysSecret()
	f.OutputField(&state.Secret).DependsOn(f.InputField(&args.SecretOutput))
	f.OutputField(&state.Secret).AlwaysSecret()
}

// Check refuses at preview time what could only fail later.
func (Berth) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[BerthArgs], error) {
	args, failures, err := infer.DefaultCheck[BerthArgs](ctx, req.NewInputs)
	if err != nil {
		return infer.CheckResponse[BerthArgs]{}, err
	}
	// A name that is an output of another resource has no value yet.
	if name := req.NewInputs.Get("name"); name.IsString() {
		if err := yard.CheckName(name.AsString()); err != nil {
			failures = append(failures, p.CheckFailure{Property: "name", Reason: err.Error()})
		}
	}
	if err := args.Trouble.check(); err != nil {
		failures = append(failures, p.CheckFailure{Property: "on", Reason: err.Error()})
	}
	return infer.CheckResponse[BerthArgs]{Inputs: args, Failures: failures}, nil
}

// Create makes the file. It never takes over a file with another content: two
// stacks that name the same berth are a mistake that must show.
func (Berth) Create(
	ctx context.Context, req infer.CreateRequest[BerthArgs],
) (infer.CreateResponse[BerthState], error) {
	out := infer.CreateResponse[BerthState]{ID: req.Inputs.Name, Output: stateOf(ctx, req.Inputs)}
	if req.DryRun {
		return out, req.Inputs.Trouble.strike(ctx, opPreview)
	}
	return out, journaled(ctx, opCreate, req.Inputs.Name, req.Inputs.Trouble, func(y yard.Yard) error {
		return y.Create(req.Inputs.Name, req.Inputs.Content)
	})
}

// Read reports what the file holds now. A berth without its file is gone, which
// the engine is told by an empty id.
func (Berth) Read(
	ctx context.Context, req infer.ReadRequest[BerthArgs, BerthState],
) (infer.ReadResponse[BerthArgs, BerthState], error) {
	var content string
	err := journaled(ctx, opRead, req.ID, req.State.Trouble, func(y yard.Yard) (err error) {
		content, err = y.Read(req.ID)
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return infer.ReadResponse[BerthArgs, BerthState]{}, nil
	}
	if err != nil {
		return infer.ReadResponse[BerthArgs, BerthState]{}, err
	}
	args := req.State.BerthArgs
	args.Name, args.Content = req.ID, content
	return infer.ReadResponse[BerthArgs, BerthState]{ID: req.ID, Inputs: args, State: stateOf(ctx, args)}, nil
}

// Update replaces the content of the file.
func (Berth) Update(
	ctx context.Context, req infer.UpdateRequest[BerthArgs, BerthState],
) (infer.UpdateResponse[BerthState], error) {
	out := infer.UpdateResponse[BerthState]{Output: stateOf(ctx, req.Inputs)}
	if req.DryRun {
		return out, req.Inputs.Trouble.strike(ctx, opPreview)
	}
	return out, journaled(ctx, opUpdate, req.ID, req.Inputs.Trouble, func(y yard.Yard) error {
		return y.Update(req.ID, req.Inputs.Content)
	})
}

// Delete removes the file. One that is gone already is no error.
func (Berth) Delete(ctx context.Context, req infer.DeleteRequest[BerthState]) (infer.DeleteResponse, error) {
	return infer.DeleteResponse{}, journaled(ctx, opDelete, req.ID, req.State.Trouble, func(y yard.Yard) error {
		return y.Delete(req.ID)
	})
}

// yardOf returns the yard that the provider was configured with.
func yardOf(ctx context.Context) yard.Yard {
	return yard.Yard(infer.GetConfig[*Config](ctx).Yard)
}

// stateOf computes the outputs from the inputs: a berth has nothing that its
// inputs do not decide.
func stateOf(ctx context.Context, args BerthArgs) BerthState {
	return BerthState{
		BerthArgs: args,
		Path:      yardOf(ctx).Path(args.Name),
		SHA256:    yard.Digest(args.Content),
		Secret:    args.SecretOutput,
	}
}

// journaled does one operation between its two journal lines. A line that cannot
// be written at the start stops the operation; at the end it is too late to, so
// that is reported as a warning only, and the engine records what was done.
func journaled(ctx context.Context, op operation, name string, trouble Trouble, work func(yard.Yard) error) error {
	y, urn := yardOf(ctx), urnOf(ctx)
	entry, err := y.Begin(yard.Operation{
		Kind:    string(op),
		Stack:   urn.Stack().Name().String(),
		Project: urn.Project().String(),
		URN:     string(urn),
		Name:    name,
	})
	if err != nil {
		return err
	}
	err = trouble.strike(ctx, op)
	if err == nil {
		err = work(y)
	}
	if lost := entry.End(err); lost != nil {
		p.GetLogger(ctx).Warningf("the end of %s %s is missing in the journal: %v", op, name, lost)
	}
	return err
}
