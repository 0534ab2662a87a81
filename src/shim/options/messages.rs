//! The messages in which runtime options come.

use containerd_shim::api::Options as RuncOptions;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{CodedInputStream, Message};
use toml::{Table, Value};

use crate::error::{Context, Error, ErrorKind, Result};

/// The name of runc's message.
pub(super) const RUNC: &str = "containerd.runc.v1.Options";
/// The name of the message with TOML in it.
pub(super) const TOML: &str = "runtimeoptions.v1.Options";

/// The options that runc's message sets; in it, the default and what is not set are the same.
pub(super) fn from_runc(value: &[u8]) -> Result<Table> {
    let runc = RuncOptions::parse_from_bytes(value).context(
        ErrorKind::InvalidArgument,
        || "runtime options: not a valid containerd.runc.v1.Options message",
    )?;
    let texts =
        [("BinaryName", runc.binary_name), ("Root", runc.root), ("ShimCgroup", runc.shim_cgroup)];
    let switches = [
        ("SystemdCgroup", runc.systemd_cgroup),
        ("NoPivotRoot", runc.no_pivot_root),
        ("NoNewKeyring", runc.no_new_keyring),
    ];
    let numbers = [("IoUid", runc.io_uid), ("IoGid", runc.io_gid)];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    let switches = switches.into_iter().filter(|(_, on)| *on);
    let numbers = numbers.into_iter().filter(|(_, number)| *number != 0);
    let texts = texts.map(|(name, text)| (name.to_owned(), Value::from(text)));
    let switches = switches.map(|(name, on)| (name.to_owned(), Value::from(on)));
    let numbers = numbers.map(|(name, number)| (name.to_owned(), Value::from(number)));
    Ok(texts.chain(switches).chain(numbers).collect())
}

/// The message's name, which may have a host before it.
pub(super) fn name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

/// The fields of `runtimeoptions.v1.Options` in use. The bindings have no such message.
#[derive(Default)]
pub(super) struct RuntimeOptions {
    pub(super) path: String,
    pub(super) body: String,
}

impl RuntimeOptions {
    pub(super) fn parse(value: &[u8]) -> Result<Self> {
        let kind = ErrorKind::InvalidArgument;
        let malformed = || "runtime options: not a valid runtimeoptions.v1.Options message";
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).context(kind, malformed);
        let mut options = Self::default();
        let mut input = CodedInputStream::from_bytes(value);
        while let Some(tag) = input.read_raw_tag_or_eof().context(kind, malformed)? {
            // Length-delimited fields: the number in the upper bits, wire type 2 in the lower.
            match (tag >> 3, tag & 7) {
                (2, 2) => options.path = text(input.read_bytes().context(kind, malformed)?)?,
                (3, 2) => options.body = text(input.read_bytes().context(kind, malformed)?)?,
                // Field 1 is the type URL of the body, which is TOML for every type.
                (_, 2) => drop(input.read_bytes().context(kind, malformed)?),
                _ => return Err(Error::invalid(malformed())),
            }
        }
        Ok(options)
    }
}
