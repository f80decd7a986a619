// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFiles(t *testing.T) {
	const licence, most = "// SPDX-License-Identifier: Apache-2.0\n", 500
	unfinished := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	for _, s := range sources(t) {
		if !strings.HasPrefix(string(s.text), licence) {
			t.Errorf("%s does not begin with %q", s.path, licence)
		}
		if !s.isTest() && s.lines > most {
			t.Errorf("%s has %d lines: more than %d; look for the second subject", s.path, s.lines, most)
		}
		for _, c := range s.Comments {
			if word := unfinished.FindString(c.Text()); word != "" {
				t.Errorf("%s:%d: %s", s.path, s.at(c), word)
			}
		}
	}
}

// TestPackageComments wants the description of every package in its doc.go.
func TestPackageComments(t *testing.T) {
	described := make(map[string]bool)
	for _, s := range sources(t) {
		if !s.isLibrary() && s.dir() != "internal/testutil" {
			continue
		}
		isDoc := strings.HasSuffix(s.path, "/doc.go")
		described[s.dir()] = described[s.dir()] || isDoc && s.Doc != nil
		if !isDoc && s.Doc != nil {
			t.Errorf("%s: the package comment belongs in doc.go", s.path)
		}
	}
	for dir, ok := range described {
		if !ok {
			t.Errorf("%s has no doc.go with a package comment", dir)
		}
	}
}

// TestLibraryBehaves looks for calls that take decisions which are the
// embedder's: to end the program, and to wait without a way out.
func TestLibraryBehaves(t *testing.T) {
	never := map[string]bool{"os.Exit": true, "time.Sleep": true, "time.Tick": true, "signal.Notify": true}
	for _, s := range sources(t) {
		if !s.isLibrary() {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s:%d: init: importing a package has no effect", s.path, s.at(n))
				}
			case *ast.CallExpr:
				if name := callee(n); never[name] || name == "print" || name == "println" {
					t.Errorf("%s:%d: %s in library code", s.path, s.at(n), name)
				}
			}
			return true
		})
	}
}

// TestSkipsAreTyped wants every skip to go through internal/testutil, or at
// least to begin with "skip(class): ".
func TestSkipsAreTyped(t *testing.T) {
	for _, s := range sources(t) {
		if !s.isTest() || s.dir() == "internal/testutil" {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			receiver, method, _ := strings.Cut(callee(call), ".")
			if receiver == "testutil" || method != "Skip" && method != "Skipf" && method != "SkipNow" {
				return true
			}
			if len(call.Args) > 0 {
				if text, ok := call.Args[0].(*ast.BasicLit); ok && strings.HasPrefix(text.Value, `"skip(`) {
					return true
				}
			}
			t.Errorf("%s:%d: %s without a typed reason: use testutil.Require or testutil.Skip", s.path, s.at(n), method)
			return true
		})
	}
}

// callee returns "f" or "pkg.F" for a plain call, and "" for any other.
func callee(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
	}
	return ""
}

// TestExportedIsDocumented wants a comment on everything that a user of a
// package sees.
func TestExportedIsDocumented(t *testing.T) {
	for _, s := range sources(t) {
		if !s.isLibrary() {
			continue
		}
		for _, d := range s.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s:%d: exported %s has no comment", s.path, s.at(d), name)
			}
		}
	}
}

func undocumented(d ast.Decl) []string {
	var names []string
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d.Recv))) {
			names = append(names, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if d.Doc == nil && spec.Doc == nil && spec.Name.IsExported() {
					names = append(names, spec.Name.Name)
				}
			case *ast.ValueSpec:
				if d.Doc == nil && spec.Doc == nil && spec.Comment == nil && spec.Names[0].IsExported() {
					names = append(names, spec.Names[0].Name)
				}
			}
		}
	}
	return names
}

// receiver returns the name of a method's type.
func receiver(list *ast.FieldList) string {
	typ := list.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// TestNamedTestsAreThere: the list of other projects' threads names tests of
// other packages, which move.
func TestNamedTestsAreThere(t *testing.T) {
	all := sources(t)
	tests := make(map[string]bool)
	var list *source
	for i, s := range all {
		if s.path == "cgroups/regression_test.go" {
			list = &all[i]
		}
		for _, d := range s.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.isTest() && f.Recv == nil {
				tests[s.dir()+"."+f.Name.Name] = true
			}
		}
	}
	require.NotNil(t, list)
	named := regexp.MustCompile(`"([a-z0-9/]+\.Test[A-Za-z0-9]+)"`).FindAllSubmatch(list.text, -1)
	require.NotEmpty(t, named)
	for _, m := range named {
		if !tests[string(m[1])] {
			t.Errorf("%s names %s, which is not there", list.path, m[1])
		}
	}
}
