// Functions to call by name.
package main

import (
	"fmt"
	"os"
	"strings"
)

//go:wasmexport add
func add(a, b int32) int32 { return a + b }

//go:wasmexport twice
func twice(number int64) int64 { return number * 2 }

//go:wasmexport half
func half(number float32) float32 { return number / 2 }

//go:wasmexport scale
func scale(factor float64, number int64) float64 { return factor * float64(number) }

//go:wasmexport greet
func greet() {
	said := make(chan string)
	go func() { said <- "hello " + os.Getenv("NAME") + " " + strings.Join(os.Args[1:], " ") }()
	fmt.Println(<-said)
}

func main() {}
