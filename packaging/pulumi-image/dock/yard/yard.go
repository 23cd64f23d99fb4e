// Copyright the Longshore authors.
// SPDX-License-Identifier: Apache-2.0

// Package yard keeps berths: files in one directory, beside a journal of
// everything that was done to them.
package yard

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Yard is the path of the directory. Nothing is kept in memory, since several
// processes may work on one yard, and finding out whether they did is the point.
type Yard string

// journalName is the one file in the yard that is no berth.
const journalName = "journal"

// ErrTaken says that a berth exists already and holds something else.
var ErrTaken = errors.New("is taken")

// Check refuses a path that is not absolute.
func (y Yard) Check() error {
	if !filepath.IsAbs(string(y)) {
		return fmt.Errorf("yard %q is not an absolute path", string(y))
	}
	return nil
}

// CheckName refuses names that are not plain visible file names, or that would
// hit the journal.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a berth needs a name")
	case name == journalName:
		return fmt.Errorf("%q is the yard's journal", name)
	case strings.HasPrefix(name, "."):
		return fmt.Errorf("%q begins with a dot", name)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%q is not a file name", name)
	case len(name) > 200:
		return fmt.Errorf("a name of %d bytes is longer than 200", len(name))
	}
	return nil
}

// Digest is the SHA-256 of a content, in hexadecimal.
func Digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// Path is where a berth's file is.
func (y Yard) Path(name string) string { return filepath.Join(string(y), name) }

// Create makes a berth. If it exists with the same content, that is a create
// which was interrupted after its work and is now done again; with another
// content it is ErrTaken.
func (y Yard) Create(name, content string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	tmp, err := y.write(name, content)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	// A link, unlike a rename, never replaces what is there.
	err = os.Link(tmp, y.Path(name))
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	found, err := y.Read(name)
	if err != nil {
		return err
	}
	if found != content {
		return fmt.Errorf("berth %q %w by something else", name, ErrTaken)
	}
	return nil
}

// Read returns a berth's content, and an error that is fs.ErrNotExist if it is gone.
func (y Yard) Read(name string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	content, err := os.ReadFile(y.Path(name))
	return string(content), err
}

// Update replaces the content of a berth that must be there.
func (y Yard) Update(name, content string) error {
	if _, err := y.Read(name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("berth %q is gone from the yard: a refresh would find that out: %w", name, fs.ErrNotExist)
		}
		return err
	}
	tmp, err := y.write(name, content)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, y.Path(name)); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}

// Delete removes a berth; that it is gone already is what was wanted.
func (y Yard) Delete(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := os.Remove(y.Path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// write puts content into a new hidden file, so that a berth only ever appears
// whole. The caller moves it or removes it.
func (y Yard) write(name, content string) (string, error) {
	if err := y.make(); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(string(y), "."+name+".*")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(content)
	// CreateTemp's 0600 would hide the berth from everyone who wants to look.
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// make makes the directory if it is not there.
func (y Yard) make() error {
	if err := y.Check(); err != nil {
		return err
	}
	return os.MkdirAll(string(y), 0o777)
}
