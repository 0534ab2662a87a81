// Command platform says for which platform it was built.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Printf("%s/%s with %d arguments\n", runtime.GOOS, runtime.GOARCH, len(os.Args)-1)
}
