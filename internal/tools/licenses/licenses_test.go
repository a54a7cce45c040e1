package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snowkey/snowkey/internal/tools/testenv"
)

// The committed files are those of the modules in go.mod.
func TestLicences_AreUpToDate(t *testing.T) {
	testenv.Heavy(t)
	t.Chdir("../../..")
	for _, p := range programs {
		want, err := p.thirdParty()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("licenses", p.name+".txt")
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not what the modules in go.mod ask for: run make docs", path)
		}
	}
}

func TestLicences_ModuleWithoutOneIsRefused(t *testing.T) {
	if _, err := (module{path: "example.org/m"}).licences(); err == nil || !strings.Contains(err.Error(), "no licence") {
		t.Errorf("a module without a file: %v", err)
	}
	notice := filepath.Join(t.TempDir(), "NOTICE")
	if err := os.WriteFile(notice, []byte("Made by example.org."), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (module{path: "example.org/m", files: []string{notice}}).licences(); err == nil {
		t.Error("a notice is taken for a licence")
	}
}

func TestLicences_AreNamed(t *testing.T) {
	const mit = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`
	const gpl = `This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version.

This program is distributed in the hope that it will be useful, but WITHOUT ANY WARRANTY; without even the implied warranty of MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE. See the GNU General Public License for more details.`
	apache, err := os.ReadFile("../../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ text, want, wrong string }{
		{text: mit, want: "MIT"},
		{text: string(apache), want: "Apache-2.0"},
		{text: string(apache) + "\n" + mit, want: "Apache-2.0,MIT"},
		{text: mit + "\n" + gpl, wrong: "GPL-3.0"},
		{text: "You may use this on Tuesdays.", wrong: "0%"},
	} {
		got, err := identify(tc.text)
		if tc.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("%.30q...: %v", tc.text, err)
			}
			continue
		}
		if err != nil || strings.Join(got, ",") != tc.want {
			t.Errorf("%.30q...: %v, %v", tc.text, got, err)
		}
	}
}

// Code that a module took from elsewhere has its licence in the directory where it lies.
func TestLicences_InsideAModule(t *testing.T) {
	top := t.TempDir()
	inner := filepath.Join(top, "a", "taken")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"LICENSE.txt", "license.go", "a/taken/COPYING", "a/taken/noticeboard"} {
		if err := os.WriteFile(filepath.Join(top, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var m module
	for range 2 {
		if err := m.collect(inner, top); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{filepath.Join(top, "LICENSE.txt"), filepath.Join(inner, "COPYING")}; len(m.files) != 2 || m.files[0] != want[0] || m.files[1] != want[1] {
		t.Errorf("%q, want %q", m.files, want)
	}
}
