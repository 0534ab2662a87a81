//! A server of `wasi:http` 0.2: what it answers depends on the path.

use std::io::Write;

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Server;

wasip2::http::proxy::export!(Server);

impl wasip2::exports::http::incoming_handler::Guest for Server {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        println!("serving {target}");
        match path {
            "/env" => {
                let all: String = std::env::vars().map(|(k, v)| format!("{k}={v}\n")).collect();
                answer(out, 200, all.as_bytes());
            }
            "/file" => match std::fs::read(query) {
                Ok(bytes) => answer(out, 200, &bytes),
                Err(error) => answer(out, 404, error.to_string().as_bytes()),
            },
            "/echo" => answer(out, 200, &body_of(&request)),
            "/grow" => {
                let mebibytes = query.parse().unwrap_or(1);
                let block = vec![1_u8; mebibytes << 20];
                answer(out, 200, format!("{} bytes\n", block.len()).as_bytes());
            }
            "/slow" => {
                let milliseconds = query.parse().unwrap_or(100);
                std::thread::sleep(std::time::Duration::from_millis(milliseconds));
                answer(out, 200, b"at last\n");
            }
            "/panic" => panic!("as asked"),
            "/spin" => loop {
                std::hint::black_box(());
            },
            "/silent" => {}
            "/" => answer(out, 200, b"hello\n"),
            _ => answer(out, 404, b"not found\n"),
        }
    }
}

fn body_of(request: &IncomingRequest) -> Vec<u8> {
    let body = request.consume().expect("the body is taken once");
    let stream = body.stream().expect("its stream is taken once");
    let mut bytes = Vec::new();
    while let Ok(chunk) = stream.blocking_read(1 << 16) {
        bytes.extend(chunk);
    }
    bytes
}

fn answer(out: ResponseOutparam, status: u16, bytes: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a valid status");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("its stream is taken once");
    // A client that went away is not this program's affair.
    let _ = stream.write_all(bytes);
    let _ = stream.flush();
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
