// Copyright the Longshore authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"longshore/pulumi-image/dock/yard"
)

// Config is what the provider needs to know before it can do anything.
type Config struct {
	// Yard is the directory that holds the berths and their journal.
	Yard string `pulumi:"yard"`
}

// Annotate describes the configuration in the provider's schema.
func (c *Config) Annotate(a infer.Annotator) {
	a.Describe(&c.Yard, "Absolute path of the directory that holds the berths and the journal. "+
		"It is made when the first berth is.")
}

// Configure refuses a yard that would depend on the directory the engine
// happens to start the provider in. An empty one is not refused: during a
// preview the value may not be known yet.
func (c *Config) Configure(context.Context) error {
	if c.Yard == "" {
		return nil
	}
	return yard.Yard(c.Yard).Check()
}

// newProvider puts the provider together.
func newProvider() (p.Provider, error) {
	provider, err := infer.NewProviderBuilder().
		WithDisplayName("Dock").
		WithDescription("A small outside world on a directory, for demonstrations and tests of deployments.").
		WithLicense("Apache-2.0").
		WithConfig(infer.Config(&Config{})).
		WithResources(infer.Resource(Berth{})).
		Build()
	if err != nil {
		return p.Provider{}, err
	}
	return withURN(provider), nil
}

// urnKey is the context key under which withURN leaves the resource's URN.
type urnKey struct{}

// withURN hands the URN to the resource methods. infer knows it and does not
// pass it on, but the journal must name stack and project, which only the URN
// holds.
func withURN(provider p.Provider) p.Provider {
	with := func(ctx context.Context, urn resource.URN) context.Context {
		return context.WithValue(ctx, urnKey{}, urn)
	}
	create, read, update, del := provider.Create, provider.Read, provider.Update, provider.Delete
	provider.Create = func(ctx context.Context, req p.CreateRequest) (p.CreateResponse, error) {
		return create(with(ctx, req.Urn), req)
	}
	provider.Read = func(ctx context.Context, req p.ReadRequest) (p.ReadResponse, error) {
		return read(with(ctx, req.Urn), req)
	}
	provider.Update = func(ctx context.Context, req p.UpdateRequest) (p.UpdateResponse, error) {
		return update(with(ctx, req.Urn), req)
	}
	provider.Delete = func(ctx context.Context, req p.DeleteRequest) error {
		return del(with(ctx, req.Urn), req)
	}
	return provider
}

// urnOf returns the URN that withURN left, or an empty one.
func urnOf(ctx context.Context) resource.URN {
	urn, _ := ctx.Value(urnKey{}).(resource.URN)
	return urn
}
