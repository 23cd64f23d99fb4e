// Copyright the Longshore authors.
// SPDX-License-Identifier: Apache-2.0

// Command pulumi-resource-dock is a Pulumi provider with a real outside world
// that needs no cloud: every Berth is a file in a directory, the yard.
//
// It exists so that demonstrations and tests can deploy something that really
// changes, drifts, fails, hangs and outlives the process that made it, on a
// machine without network. Beside the files it keeps a journal of every
// operation, which is how anyone can prove afterwards that no two attempts ever
// wrote at the same time.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"strings"
)

// version is what the engine sees and what names the plugin's directory, so
// that it stands in one file that the image build reads too.
//
//go:embed VERSION
var version string

func main() {
	p, err := newProvider()
	if err == nil {
		err = p.Run(context.Background(), "dock", strings.TrimSpace(version))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-resource-dock:", err)
		os.Exit(1)
	}
}
