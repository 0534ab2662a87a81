//! A server of `wasi:http` 0.3: one instance answers several requests, some at once.

use std::cell::Cell;

use wasip3::clocks::monotonic_clock;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

struct Server;

wasip3::http::service::export!(Server);

thread_local! {
    /// How many requests this instance has seen.
    static SEEN: Cell<u32> = const { Cell::new(0) };
}

impl wasip3::exports::http::handler::Guest for Server {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        println!("serving {target}");
        let seen = SEEN.get() + 1;
        SEEN.set(seen);
        match target.as_str() {
            "/" => Ok(answer(200, "hello\n".to_owned())),
            "/seen" => Ok(answer(200, format!("{seen}\n"))),
            "/slow" => {
                monotonic_clock::wait_for(100_000_000).await;
                Ok(answer(200, "at last\n".to_owned()))
            }
            "/spin" => loop {
                std::hint::black_box(());
            },
            "/panic" => panic!("as asked"),
            _ => Ok(answer(404, "not found\n".to_owned())),
        }
    }
}

fn answer(status: u16, text: String) -> Response {
    let (mut body, body_reader) = wit_stream::new();
    let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _sent) = Response::new(Fields::new(), Some(body_reader), trailers_reader);
    response.set_status_code(status).expect("a valid status");
    // The response goes first, its body follows.
    wit_bindgen::spawn_local(async move {
        // A client that went away takes less; that is not this program's affair.
        let _ = body.write_all(text.into_bytes()).await;
    });
    response
}
