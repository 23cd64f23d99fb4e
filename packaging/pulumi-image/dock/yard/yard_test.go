// Copyright the Longshore authors.
// SPDX-License-Identifier: Apache-2.0

package yard

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fresh returns a yard whose directory is not there yet.
func fresh(t *testing.T) Yard {
	t.Helper()
	return Yard(filepath.Join(t.TempDir(), "deep", "yard"))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content fails the test unless the berth holds want.
func content(t *testing.T, y Yard, name, want string) {
	t.Helper()
	got, err := y.Read(name)
	must(t, err)
	if got != want {
		t.Errorf("berth %s holds %q, want %q", name, got, want)
	}
}

func TestABerthLivesAndDies(t *testing.T) {
	y := fresh(t)
	must(t, y.Create("a", "one"))
	content(t, y, "a", "one")
	must(t, y.Update("a", "two"))
	content(t, y, "a", "two")
	must(t, y.Delete("a"))
	if _, err := y.Read("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a deleted berth reads as %v", err)
	}
	must(t, y.Delete("a"))
}

func TestAnyContentIsKept(t *testing.T) {
	y := fresh(t)
	for name, want := range map[string]string{"empty": "", "nul": "a\x00b\n", "invalid": "\xff\xfe", "long": strings.Repeat("x", 1<<20)} {
		must(t, y.Create(name, want))
		content(t, y, name, want)
	}
}

func TestCreateFindsItsOwnWorkButTakesNothingOver(t *testing.T) {
	y := fresh(t)
	must(t, y.Create("a", "one"))
	must(t, y.Create("a", "one"))
	if err := y.Create("a", "two"); !errors.Is(err, ErrTaken) {
		t.Errorf("a taken berth was created: %v", err)
	}
	content(t, y, "a", "one")
}

func TestUpdateOfALostBerthFails(t *testing.T) {
	y := fresh(t)
	if err := y.Update("a", "two"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a lost berth was updated: %v", err)
	}
	if _, err := os.Stat(y.Path("a")); err == nil {
		t.Error("the failed update made the berth")
	}
}

func TestNothingIsLeftBesideTheBerths(t *testing.T) {
	y := fresh(t)
	must(t, y.Create("a", "one"))
	_ = y.Create("a", "two")
	must(t, y.Update("a", "three"))
	entries, err := os.ReadDir(string(y))
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != "a" {
		t.Errorf("the yard holds %v, want only the berth", entries)
	}
}

func TestABerthIsReadableByAll(t *testing.T) {
	y := fresh(t)
	must(t, y.Create("a", "one"))
	info, err := os.Stat(y.Path("a"))
	must(t, err)
	if info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestNamesThatAreRefused(t *testing.T) {
	y := fresh(t)
	for _, name := range []string{"", ".", "..", ".hidden", "a/b", "../a", "journal", "a\x00b", strings.Repeat("n", 201)} {
		_, read := y.Read(name)
		for what, err := range map[string]error{
			"CheckName": CheckName(name), "Create": y.Create(name, "x"), "Read": read,
			"Update": y.Update(name, "x"), "Delete": y.Delete(name),
		} {
			if err == nil {
				t.Errorf("%s accepts %q", what, name)
			}
		}
	}
	for _, name := range []string{"a", "berth-1", "übersee", "journal2", "a.b"} {
		must(t, CheckName(name))
	}
}

func TestARelativeYardIsRefused(t *testing.T) {
	for _, y := range []Yard{"", "yard", "./yard"} {
		if y.Check() == nil {
			t.Errorf("%q is accepted", string(y))
		}
		if y.Create("a", "x") == nil {
			t.Errorf("a berth was made in %q", string(y))
		}
	}
}

func TestDigest(t *testing.T) {
	if got := Digest(""); got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Error(got)
	}
}
