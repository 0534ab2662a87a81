// Command hello prints what a container gives its program, one fact a line: the same lines in
// the same order as the Rust, C and shell programs beside this one.
package main

import (
	"bufio"
	"fmt"
	"os"
	"sort"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(out, "hello from Go")
	for index, arg := range os.Args {
		fmt.Fprintf(out, "arg %d: %s\n", index, arg)
	}
	variables := os.Environ()
	sort.Strings(variables)
	for _, variable := range variables {
		fmt.Fprintf(out, "env: %s\n", variable)
	}
	cwd, err := os.Getwd()
	if err != nil {
		cwd = "unknown"
	}
	fmt.Fprintf(out, "cwd: %s\n", cwd)
	list(out, "/")
	list(out, ".")
	// bufio keeps the first error of any write above.
	if err := out.Flush(); err != nil {
		os.Exit(1)
	}
}

// list prints one line for each entry of dir, sorted; a directory's name ends in a slash.
func list(out *bufio.Writer, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		fmt.Fprintf(out, "files in %s: cannot be read\n", dir)
		return
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() {
			name += "/"
		}
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(out, "files in %s: %s\n", dir, name)
	}
}
