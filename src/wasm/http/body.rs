//! Bodies on their way in and out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi_http::{Error, WasiBody};

use super::log::Entry;

/// A response's body, with what lives until it was sent.
pub struct Guarded<B> {
    body: B,
    entry: Option<Entry>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl<B> Guarded<B> {
    /// Keeps `slot` taken, and `entry` open, until the body of `response` was sent or given up.
    pub fn response(
        response: Response<B>,
        slot: Option<OwnedSemaphorePermit>,
        mut entry: Option<Entry>,
    ) -> Response<Self> {
        if let Some(entry) = &mut entry {
            entry.status = response.status().as_u16();
        }
        response.map(|body| Self { body, entry, _slot: slot })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Guarded<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(Some(Ok(frame))), Some(entry)) = (&polled, &mut self.entry) {
            entry.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Makes a request as the guest gets it: its body is bounded, and it has an authority, which
/// HTTP/1.0 leaves out and the guest's interface requires.
pub fn prepare(mut request: Request<Incoming>, limit: u64) -> Request<WasiBody> {
    if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    // An authority alone, as CONNECT has it, stands for the root.
    if request.uri().path().is_empty() {
        *request.uri_mut() = Uri::from_static("/");
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    request.map(|body| {
        let body = Limited::new(body, limit);
        body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => Error::from(*error),
            Err(_) => Error::HttpRequestBodySize(None),
        })
        .boxed_unsync()
    })
}
