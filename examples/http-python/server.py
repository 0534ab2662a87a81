"""Answers HTTP requests: the export wasi:http/incoming-handler of the component."""

import os
from urllib.parse import urlsplit

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

# What one call may read or write (wasi:io/streams).
CHUNK = 4096


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = urlsplit(request.path_with_query() or "/").path
        print("serving", path, flush=True)
        match path:
            case "/":
                respond(response_out, 200, b"hello from Python\n")
            case "/env":
                lines = sorted(f"{name}={value}\n" for name, value in os.environ.items())
                respond(response_out, 200, "".join(lines).encode())
            case "/echo":
                respond(response_out, 200, read(request))
            case _:
                respond(response_out, 404, b"not found\n")


def read(request: IncomingRequest) -> bytes:
    """The request's body."""
    chunks = []
    with request.consume() as body, body.stream() as stream:
        try:
            while True:
                chunks.append(stream.blocking_read(CHUNK))
        except Err:
            return b"".join(chunks)


def respond(response_out: ResponseOutparam, status: int, text: bytes) -> None:
    """Sends a response."""
    response = OutgoingResponse(Fields())
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        for start in range(0, len(text), CHUNK):
            stream.blocking_write_and_flush(text[start : start + CHUNK])
    OutgoingBody.finish(body, None)
