// SPDX-License-Identifier: Apache-2.0

// Package arch holds the module's source to the rules of its architecture:
// which package may import which, and what library code never does.
package arch

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/caisson-run/caisson"

// source is one parsed Go file of this module.
type source struct {
	*ast.File
	path  string // from the top of the module, with slashes
	text  []byte
	fset  *token.FileSet
	lines int
}

func (s source) dir() string       { return path.Dir(s.path) }
func (s source) isTest() bool      { return strings.HasSuffix(s.path, "_test.go") }
func (s source) at(n ast.Node) int { return s.fset.Position(n.Pos()).Line }
func (s source) top() string       { return strings.Split(s.path, "/")[0] }
func (s source) imports() []string {
	var list []string
	for _, i := range s.Imports {
		if p, err := strconv.Unquote(i.Path.Value); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// isLibrary reports whether the file is compiled into programs of embedders.
func (s source) isLibrary() bool {
	return !s.isTest() && s.Name.Name != "main" && s.top() != "test" && s.dir() != "internal/testutil"
}

// sources parses every Go file of the module for every OS, without nested
// modules and testdata.
func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	require.FileExists(t, filepath.Join(root, "go.mod"), "the test runs in its place in the source tree")
	var all []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, nested := os.Stat(filepath.Join(p, "go.mod"))
			if p != root && (nested == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(p) != ".go" {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(fset, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		all = append(all, source{file, filepath.ToSlash(rel), text, fset, bytes.Count(text, []byte("\n"))})
		return err
	})
	require.NoError(t, err)
	require.NotEmpty(t, all)
	return all
}
