// Copyright the Longshore authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blang/semver"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/integration"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"longshore/pulumi-image/dock/yard"
)

const urn = resource.URN("urn:pulumi:dev::shop::dock:index:Berth::quay")

// world is the provider as the engine sees it, and the yard it works on.
type world struct {
	integration.Server
	yard yard.Yard
}

func start(t *testing.T) world {
	t.Helper()
	y := filepath.Join(t.TempDir(), "yard")
	provider, err := newProvider()
	must(t, err)
	server, err := integration.NewServer(t.Context(), "dock", semver.MustParse(strings.TrimSpace(version)), integration.WithProvider(provider))
	must(t, err)
	must(t, server.Configure(p.ConfigureRequest{Args: inputs("yard", y)}))
	return world{server, yard.Yard(y)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inputs builds a property map from names and values that alternate.
func inputs(pairs ...any) property.Map {
	m := map[string]property.Value{}
	for i := 0; i < len(pairs); i += 2 {
		value, err := property.Any(pairs[i+1])
		if err != nil {
			panic(err)
		}
		m[pairs[i].(string)] = value
	}
	return property.NewMap(m)
}

// create makes a berth and returns its state.
func (w world) create(t *testing.T, in property.Map) property.Map {
	t.Helper()
	made, err := w.Create(p.CreateRequest{Urn: urn, Properties: in})
	must(t, err)
	return made.Properties
}

// journal returns "operation phase" of each line, and fails if one names another
// stack, project or berth than the test's.
func (w world) journal(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(w.yard.Path("journal"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(t, err)
	var found []string
	for text := range strings.Lines(string(text)) {
		var line struct{ Operation, Phase, Stack, Project, URN, Name string }
		must(t, json.Unmarshal([]byte(text), &line))
		if line.Stack != "dev" || line.Project != "shop" || line.URN != string(urn) || line.Name != "quay" {
			t.Errorf("journal: %s", text)
		}
		found = append(found, line.Operation+" "+line.Phase)
	}
	return found
}

func TestABerthThroughItsLife(t *testing.T) {
	w := start(t)
	state := w.create(t, inputs("name", "quay", "content", "one"))
	if got := state.Get("sha256").AsString(); got != yard.Digest("one") {
		t.Errorf("sha256 %s", got)
	}
	updated, err := w.Update(p.UpdateRequest{
		ID: "quay", Urn: urn, State: state, OldInputs: inputs("name", "quay", "content", "one"),
		Inputs: inputs("name", "quay", "content", "two"),
	})
	must(t, err)
	content, err := w.yard.Read("quay")
	must(t, err)
	if content != "two" || updated.Properties.Get("sha256").AsString() != yard.Digest("two") {
		t.Errorf("after the update: %q, %v", content, updated.Properties)
	}
	must(t, w.Delete(p.DeleteRequest{ID: "quay", Urn: urn, Properties: updated.Properties}))
	if _, err := w.yard.Read("quay"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the delete: %v", err)
	}
	want := "create start,create end,update start,update end,delete start,delete end"
	if got := strings.Join(w.journal(t), ","); got != want {
		t.Errorf("journal %s, want %s", got, want)
	}
}

func TestAPreviewTouchesNothing(t *testing.T) {
	w := start(t)
	in := inputs("name", "quay", "content", "one", "fail", "never in a preview")
	_, err := w.Create(p.CreateRequest{Urn: urn, Properties: in, DryRun: true})
	must(t, err)
	if _, err := os.Stat(string(w.yard)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a preview made the yard: %v", err)
	}
}

func TestReadSeesWhatReallyIsThere(t *testing.T) {
	w := start(t)
	in := inputs("name", "quay", "content", "one")
	req := p.ReadRequest{ID: "quay", Urn: urn, Inputs: in, Properties: w.create(t, in)}

	must(t, os.WriteFile(w.yard.Path("quay"), []byte("drift"), 0o644))
	read, err := w.Read(req)
	must(t, err)
	if read.Inputs.Get("content").AsString() != "drift" || read.Properties.Get("sha256").AsString() != yard.Digest("drift") {
		t.Errorf("drift is not seen: %+v", read)
	}
	// What was read, compared with what the program wants, is the drift.
	diff, err := w.Diff(p.DiffRequest{ID: "quay", Urn: urn, State: read.Properties, OldInputs: read.Inputs, Inputs: in})
	must(t, err)
	if !diff.HasChanges {
		t.Error("drift makes no difference")
	}

	must(t, os.Remove(w.yard.Path("quay")))
	read, err = w.Read(req)
	must(t, err)
	if read.ID != "" {
		t.Errorf("a lost berth has the id %q", read.ID)
	}
}

func TestImportNeedsTheNameOnly(t *testing.T) {
	w := start(t)
	must(t, w.yard.Create("quay", "there before"))
	read, err := w.Read(p.ReadRequest{ID: "quay", Urn: urn})
	must(t, err)
	if read.ID != "quay" || read.Inputs.Get("name").AsString() != "quay" || read.Inputs.Get("content").AsString() != "there before" {
		t.Errorf("imported as %+v", read)
	}
}

func TestWhichChangesReplace(t *testing.T) {
	w := start(t)
	old := inputs("name", "quay", "content", "one")
	state := w.create(t, old)
	for name, c := range map[string]struct {
		new  property.Map
		kind p.DiffKind
	}{
		"name":    {inputs("name", "pier", "content", "one"), p.UpdateReplace},
		"content": {inputs("name", "quay", "content", "two"), p.Update},
		"delay":   {inputs("name", "quay", "content", "one", "delay", 1.0), p.Add},
	} {
		diff, err := w.Diff(p.DiffRequest{ID: "quay", Urn: urn, State: state, OldInputs: old, Inputs: c.new})
		must(t, err)
		if got := diff.DetailedDiff[name].Kind; got != c.kind {
			t.Errorf("a change of %s is %v, want %v", name, got, c.kind)
		}
	}
	diff, err := w.Diff(p.DiffRequest{ID: "quay", Urn: urn, State: state, OldInputs: old, Inputs: old})
	must(t, err)
	if diff.HasChanges {
		t.Errorf("nothing changed, but: %+v", diff)
	}
}

func TestASecretStaysASecret(t *testing.T) {
	w := start(t)
	checked, err := w.Check(p.CheckRequest{Urn: urn, Inputs: inputs("name", "quay", "content", "one", "secretOutput", "s3cret")})
	must(t, err)
	if !checked.Inputs.Get("secretOutput").Secret() {
		t.Error("the input is not marked")
	}
	state := w.create(t, checked.Inputs)
	for _, output := range []string{"secret", "secretOutput"} {
		if v := state.Get(output); !v.Secret() || v.AsString() != "s3cret" {
			t.Errorf("output %s is %v", output, v)
		}
	}
	if state.Get("content").Secret() || state.Get("path").Secret() {
		t.Errorf("too much is secret: %v", state)
	}
}

func TestCheckRefusesWhatCannotBe(t *testing.T) {
	w := start(t)
	for property, in := range map[string]property.Map{
		"name": inputs("name", "../escape", "content", "x"),
		"on":   inputs("name", "quay", "content", "x", "on", []property.Value{property.New("creat")}),
	} {
		checked, err := w.Check(p.CheckRequest{Urn: urn, Inputs: in})
		must(t, err)
		if len(checked.Failures) != 1 || checked.Failures[0].Property != property {
			t.Errorf("%s: %+v", property, checked.Failures)
		}
	}
	// During a preview the name may be an output that has no value yet.
	in := inputs("content", "x").Set("name", property.New(property.Computed))
	checked, err := w.Check(p.CheckRequest{Urn: urn, Inputs: in})
	must(t, err)
	if len(checked.Failures) != 0 {
		t.Errorf("an unknown name is refused: %+v", checked.Failures)
	}
}

func TestARelativeYardIsRefusedAtTheStart(t *testing.T) {
	provider, err := newProvider()
	must(t, err)
	server, err := integration.NewServer(t.Context(), "dock", semver.MustParse("0.0.1"), integration.WithProvider(provider))
	must(t, err)
	if server.Configure(p.ConfigureRequest{Args: inputs("yard", "relative/yard")}) == nil {
		t.Error("a relative yard is accepted")
	}
}

func TestAFailureIsInTheJournalAndLeavesNoBerth(t *testing.T) {
	w := start(t)
	_, err := w.Create(p.CreateRequest{Urn: urn, Properties: inputs("name", "quay", "content", "one", "fail", "broken")})
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("got %v", err)
	}
	if _, err := w.yard.Read("quay"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the berth is there: %v", err)
	}
	text, err := os.ReadFile(w.yard.Path("journal"))
	must(t, err)
	if got := strings.Join(w.journal(t), ","); got != "create start,create end" || !strings.Contains(string(text), `"error":"broken"`) {
		t.Errorf("journal %s", text)
	}
}
