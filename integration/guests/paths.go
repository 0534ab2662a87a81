// Prints each file named on the command line, or why it cannot.
package main

import (
	"fmt"
	"os"
)

func main() {
	for _, path := range os.Args[1:] {
		text, err := os.ReadFile(path)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s: %s\n", path, text)
	}
}
