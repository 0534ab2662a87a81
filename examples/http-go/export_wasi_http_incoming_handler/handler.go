// Package export_wasi_http_incoming_handler answers HTTP requests: it is the export
// wasi:http/incoming-handler of the component.
package export_wasi_http_incoming_handler

import (
	"fmt"
	"os"
	"sort"
	"strings"

	types "wit_component/wasi_http_types"
	streams "wit_component/wasi_io_streams"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Handle answers one request.
func Handle(request *types.IncomingRequest, out *types.ResponseOutparam) {
	path, _, _ := strings.Cut(request.PathWithQuery().SomeOr("/"), "?")
	fmt.Println("serving", path)
	switch path {
	case "/":
		respond(out, 200, []byte("hello from Go\n"))
	case "/env":
		variables := os.Environ()
		sort.Strings(variables)
		respond(out, 200, []byte(strings.Join(variables, "\n")+"\n"))
	case "/echo":
		respond(out, 200, read(request.Consume().Ok()))
	default:
		respond(out, 404, []byte("not found\n"))
	}
}

// read reads a body to its end.
func read(body *types.IncomingBody) []byte {
	defer body.Drop()
	stream := body.Stream().Ok()
	defer stream.Drop()
	var all []byte
	for {
		chunk := stream.BlockingRead(64 << 10)
		if chunk.IsErr() {
			return all
		}
		all = append(all, chunk.Ok()...)
	}
}

// respond sends a response.
func respond(out *types.ResponseOutparam, status uint16, text []byte) {
	response := types.MakeOutgoingResponse(types.MakeFields())
	response.SetStatusCode(status)
	body := response.Body().Ok()
	types.ResponseOutparamSet(out, wit.Ok[*types.OutgoingResponse, types.ErrorCode](response))
	write(body.Write().Ok(), text)
	types.OutgoingBodyFinish(body, wit.None[*types.Fields]())
}

// most is what one call may write.
const most = 4096

// write writes all of text, unless the client has gone.
func write(stream *streams.OutputStream, text []byte) {
	defer stream.Drop()
	for len(text) > 0 {
		chunk := text[:min(most, len(text))]
		if stream.BlockingWriteAndFlush(chunk).IsErr() {
			return
		}
		text = text[len(chunk):]
	}
}
