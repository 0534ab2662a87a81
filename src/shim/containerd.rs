//! Questions to containerd: which image a container is made of, and where its blobs are.
//!
//! containerd answers these over gRPC only. A question is one small message each way, for which
//! HTTP/2 and five bytes before the message are all that is needed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use containerd_shim::protos::protobuf::{CodedInputStream, CodedOutputStream};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::error::{Context, Error, ErrorKind, Result};

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// gRPC's code for "not found".
const NOT_FOUND: &str = "5";
/// What a message starts with: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// An answer is some names; a longer one is not believed.
const MAX_ANSWER: usize = 4 << 20;

/// An image, as containerd keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The directory below which its blobs are.
    pub store: PathBuf,
    /// The digest of its manifest or index.
    pub digest: String,
}

/// The image of the name `image`, or, without one, that of container `id`; none for a container
/// without an image.
///
/// # Errors
/// When containerd does not answer, and for an image that it does not have.
pub async fn image_of(
    socket: &Path,
    namespace: &str,
    id: &str,
    image: Option<&str>,
) -> Result<Option<Image>> {
    let asked = async {
        let containerd = Containerd::connect(socket, namespace).await?;
        let name = match image {
            Some(name) => name.to_owned(),
            None => containerd.image_name(id).await?,
        };
        if name.is_empty() {
            return Ok(None);
        }
        let digest = containerd.digest(&name).await?;
        Ok(Some(Image { store: containerd.content_store().await?, digest }))
    };
    timeout(PATIENCE, asked)
        .await
        .os(|| format!("containerd at {} does not answer", socket.display()))?
}

struct Containerd {
    client: SendRequest<Bytes>,
    namespace: String,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Containerd {
    async fn connect(socket: &Path, namespace: &str) -> Result<Self> {
        let failed = || format!("connect to containerd at {}", socket.display());
        let stream = UnixStream::connect(socket).await.os(failed)?;
        let (client, connection) = h2::client::handshake(stream).await.os(failed)?;
        // What goes wrong with the connection, the call on it reports.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { client, namespace: namespace.to_owned(), connection })
    }

    /// The name of the image of container `id`, empty if it has none.
    async fn image_name(&self, id: &str) -> Result<String> {
        // GetContainerRequest.id; GetContainerResponse.container; Container.image
        let answer = self.call("containers.v1.Containers/Get", id).await?;
        Ok(text(&within(&answer, 1)?, 3)?.unwrap_or_default())
    }

    /// The digest of the manifest or index of the image `name`.
    async fn digest(&self, name: &str) -> Result<String> {
        // GetImageRequest.name; GetImageResponse.image; Image.target; Descriptor.digest
        let answer = self.call("images.v1.Images/Get", name).await?;
        let target = within(&within(&answer, 1)?, 3)?;
        text(&target, 2)?.ok_or_else(|| Error::os(format!("image {name}: no digest")))
    }

    /// The directory of the content store.
    async fn content_store(&self) -> Result<PathBuf> {
        // PluginsRequest.filters; PluginsResponse.plugins; Plugin.exports, a map of texts
        let filter = "type==io.containerd.content.v1";
        let answer = self.call("introspection.v1.Introspection/Plugins", filter).await?;
        let exports: HashMap<String, String> = fields(&within(&answer, 1)?, 5)?
            .iter()
            .map(|entry| {
                Ok((text(entry, 1)?.unwrap_or_default(), text(entry, 2)?.unwrap_or_default()))
            })
            .collect::<Result<_>>()?;
        let root = exports.get("root").map(PathBuf::from);
        root.ok_or_else(|| Error::os("containerd does not say where its content store is"))
    }

    /// Calls `method` with a message whose first field is `argument`.
    async fn call(&self, method: &str, argument: &str) -> Result<Vec<u8>> {
        let failed = || format!("ask containerd: {method}");
        let message = message_of(argument).os(failed)?;
        let request = Request::post(format!("http://localhost/containerd.services.{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("containerd-namespace", &self.namespace)
            .body(())
            .os(failed)?;
        let mut client = self.client.clone().ready().await.os(failed)?;
        let (response, mut stream) = client.send_request(request, false).os(failed)?;
        stream.send_data(message.into(), true).os(failed)?;
        let response = response.await.os(failed)?;
        let (head, mut body) = response.into_parts();
        let mut answer = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.os(failed)?;
            body.flow_control().release_capacity(chunk.len()).os(failed)?;
            answer.extend_from_slice(&chunk);
            if answer.len() > MAX_ANSWER {
                return Err(Error::os(format!("{}: the answer is too long", failed())));
            }
        }
        // A call that fails at once has its status among the headers.
        let trailers = body.trailers().await.os(failed)?;
        check(trailers.as_ref().unwrap_or(&head.headers)).map_err(|(kind, reason)| {
            Error::new(kind, format!("{}: {argument}: {reason}", failed()))
        })?;
        Ok(answer.split_off(PREFIX.min(answer.len())))
    }
}

/// A message whose first field is `argument`, with what gRPC wants before it.
fn message_of(argument: &str) -> containerd_shim::protos::protobuf::Result<Vec<u8>> {
    let mut message = Vec::new();
    let mut output = CodedOutputStream::vec(&mut message);
    output.write_string(1, argument)?;
    output.flush()?;
    drop(output);
    let length = (message.len() as u32).to_be_bytes();
    Ok([&[0], length.as_slice(), message.as_slice()].concat())
}

/// The outcome of a call.
fn check(status: &HeaderMap) -> Result<(), (ErrorKind, String)> {
    let text = |name| status.get(name).and_then(|value| value.to_str().ok());
    let message = text("grpc-message").unwrap_or_default().to_owned();
    match text("grpc-status") {
        Some("0") => Ok(()),
        Some(NOT_FOUND) => Err((ErrorKind::NotFound, message)),
        Some(code) => Err((ErrorKind::Os, format!("code {code}, {message}"))),
        None => Err((ErrorKind::Os, "the answer has no status".to_owned())),
    }
}

/// The values of a field of texts or messages.
fn fields(message: &[u8], number: u32) -> Result<Vec<Vec<u8>>> {
    let malformed = || "containerd's answer is malformed";
    let mut values = Vec::new();
    let mut input = CodedInputStream::from_bytes(message);
    while let Some(tag) = input.read_raw_tag_or_eof().os(malformed)? {
        // The number in the upper bits, the wire type in the lower.
        match (tag >> 3, tag & 7) {
            (found, 2) => {
                let value = input.read_bytes().os(malformed)?;
                if found == number {
                    values.push(value);
                }
            }
            (_, 0) => drop(input.read_raw_varint64().os(malformed)?),
            (_, 1) => drop(input.read_fixed64().os(malformed)?),
            (_, 5) => drop(input.read_fixed32().os(malformed)?),
            _ => return Err(Error::os(malformed())),
        }
    }
    Ok(values)
}

/// A message within a message; empty if it is not there.
fn within(message: &[u8], number: u32) -> Result<Vec<u8>> {
    Ok(fields(message, number)?.into_iter().next().unwrap_or_default())
}

fn text(message: &[u8], number: u32) -> Result<Option<String>> {
    let value = fields(message, number)?.into_iter().next();
    value.map(String::from_utf8).transpose().os(|| "containerd's answer is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_among_others() {
        // 1: 150, 2: "ab", 3: a message with 1: "c"
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'a', b'b', 0x1a, 3, 0x0a, 1, b'c'];
        assert_eq!(text(&message, 2).unwrap().as_deref(), Some("ab"));
        assert_eq!(text(&within(&message, 3).unwrap(), 1).unwrap().as_deref(), Some("c"));
        assert_eq!(text(&message, 4).unwrap(), None);
        assert!(fields(&message[..6], 1).is_err());
    }

    #[tokio::test]
    async fn nobody_at_the_socket_is_an_error() {
        let error = image_of(Path::new("/nonexistent"), "ns", "c", None).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }
}
