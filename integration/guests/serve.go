// Sends back what each client says, with a goroutine for each.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

func main() {
	first, _ := strconv.Atoi(os.Getenv("LISTEN_FDS_START"))
	count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	for fd := first; fd < first+count; fd++ {
		listener, err := net.FileListener(os.NewFile(uintptr(fd), ""))
		if err != nil {
			panic(err)
		}
		go serve(listener)
	}
	fmt.Println("ready")
	select {}
}

func serve(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			fmt.Println("accept:", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go func() {
			defer client.Close()
			if _, err := io.Copy(client, client); err != nil {
				fmt.Println("copy:", err)
			}
		}()
	}
}
