//! How containerd tells the `start` action what it wants, and how it wants the answer.
//!
//! containerd 2.3 and later send a protobuf message; before that there are flags, the environment
//! and the runtime options on standard input. containerd 1.6 reads a bare address as the answer,
//! and so does every later one, which then speaks version 2 of the task service.

use containerd_shim::bootstrap::{BootstrapParams, BootstrapResult, Extension, LogLevel};
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{EnumOrUnknown, Message};
use containerd_shim::{Flags, StartOpts};
use serde_json::json;

use crate::error::{Context, Error, ErrorKind, Result};

/// The newest version of the task service.
const VERSION: i32 = 3;

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The address alone.
    Address,
    /// JSON with a version.
    Json,
    /// The protobuf message.
    Message,
}

/// What the environment says to the `start` action.
#[derive(Debug, Default)]
pub struct Environment {
    /// Where events go.
    pub ttrpc_address: String,
    /// containerd's own address, when no flag has it.
    pub grpc_address: String,
    /// The newest version of the task service that containerd speaks.
    pub max_version: i32,
}

impl Environment {
    /// Reads the variables that containerd sets.
    pub fn read() -> Self {
        let read = |name| std::env::var(name).unwrap_or_default();
        Self {
            ttrpc_address: read("TTRPC_ADDRESS"),
            grpc_address: read("GRPC_ADDRESS"),
            // containerd 1.6 does not set it.
            max_version: read("MAX_SHIM_VERSION").parse().unwrap_or(2),
        }
    }
}

/// Reads a request from standard input's bytes, the flags and the environment.
pub fn read(input: &[u8], flags: &Flags, environment: Environment) -> Result<(StartOpts, Reply)> {
    let (mut params, reply) = match message(input, flags)? {
        Some(params) => (params, Reply::Message),
        None if environment.max_version >= VERSION => {
            (legacy(input, flags, environment)?, Reply::Json)
        }
        None => (legacy(input, flags, environment)?, Reply::Address),
    };
    if flags.debug {
        params.log_level = EnumOrUnknown::new(LogLevel::LOG_LEVEL_DEBUG);
    }
    if params.containerd_ttrpc_address.is_empty() {
        return Err(Error::invalid(
            "no address for events: the environment variable TTRPC_ADDRESS is not set",
        ));
    }
    Ok((params.into(), reply))
}

/// The protobuf message, if this is one. Runtime options alone, as older versions send them,
/// decode as one with a type and a value in the place of id and namespace.
fn message(input: &[u8], flags: &Flags) -> Result<Option<BootstrapParams>> {
    let Some(params) = BootstrapParams::parse_from_bytes(input).ok().filter(|_| !input.is_empty())
    else {
        return Ok(None);
    };
    if params.instance_id == flags.id && params.namespace == flags.namespace {
        return Ok(Some(params));
    }
    let names_only = BootstrapParams {
        instance_id: params.instance_id.clone(),
        namespace: params.namespace.clone(),
        ..Default::default()
    };
    if params == names_only {
        return Ok(None);
    }
    Err(Error::invalid(format!(
        "the bootstrap message is for {}/{}, the command line for {}/{}",
        params.namespace, params.instance_id, flags.namespace, flags.id
    )))
}

fn legacy(input: &[u8], flags: &Flags, environment: Environment) -> Result<BootstrapParams> {
    let options = Any::parse_from_bytes(input).context(
        ErrorKind::InvalidArgument,
        || "standard input holds neither a bootstrap message nor runtime options",
    )?;
    let options = Some(options).filter(|options| !options.type_url.is_empty());
    let extensions = options
        .map(|options| Extension { value: Some(options).into(), ..Default::default() })
        .into_iter()
        .collect();
    let address = match flags.address.is_empty() {
        true => environment.grpc_address,
        false => flags.address.clone(),
    };
    Ok(BootstrapParams {
        instance_id: flags.id.clone(),
        namespace: flags.namespace.clone(),
        containerd_ttrpc_address: environment.ttrpc_address,
        containerd_grpc_address: address,
        containerd_binary: flags.publish_binary.clone(),
        extensions,
        ..Default::default()
    })
}

/// The answer: the shim serves the task service at `address`.
pub fn answer(address: &str, reply: Reply) -> Result<Vec<u8>> {
    let protocol = "ttrpc";
    match reply {
        Reply::Address => Ok(address.into()),
        Reply::Json => {
            let answer = json!({ "version": VERSION, "address": address, "protocol": protocol });
            Ok(answer.to_string().into_bytes())
        }
        Reply::Message => {
            let answer = BootstrapResult {
                version: VERSION,
                address: address.to_owned(),
                protocol: protocol.to_owned(),
                ..Default::default()
            };
            answer.write_to_bytes().os(|| "encode the answer to containerd")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Flags {
        Flags {
            id: "c".into(),
            namespace: "ns".into(),
            address: "/grpc".into(),
            ..Flags::default()
        }
    }

    fn environment(max_version: i32) -> Environment {
        Environment { ttrpc_address: "/t".into(), grpc_address: "/env".into(), max_version }
    }

    #[test]
    fn old_daemons_get_what_they_can_read() {
        for (version, expected) in [(2, Reply::Address), (3, Reply::Json)] {
            let (opts, reply) = read(&[], &flags(), environment(version)).unwrap();
            assert_eq!(reply, expected);
            assert_eq!((opts.address.as_str(), opts.ttrpc_address.as_str()), ("/grpc", "/t"));
        }
        assert_eq!(answer("unix:///s", Reply::Address).unwrap(), b"unix:///s");
        let json = answer("unix:///s", Reply::Json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["version"], 3);
        assert_eq!(json["address"], "unix:///s");
    }

    #[test]
    fn options_on_standard_input_are_no_bootstrap_message() {
        let url = "containerd.runc.v1.Options";
        let any = Any { type_url: url.into(), value: vec![0x48, 1], ..Default::default() };
        let input = any.write_to_bytes().unwrap();
        let (opts, reply) = read(&input, &flags(), environment(2)).unwrap();
        assert_eq!(reply, Reply::Address);
        assert_eq!(opts.extensions, [any]);
    }

    #[test]
    fn a_bootstrap_message_must_be_for_this_shim() {
        let params = BootstrapParams {
            instance_id: "c".into(),
            namespace: "ns".into(),
            containerd_ttrpc_address: "/msg".into(),
            ..Default::default()
        };
        let input = params.write_to_bytes().unwrap();
        let (opts, reply) = read(&input, &flags(), environment(3)).unwrap();
        assert_eq!((opts.ttrpc_address.as_str(), reply), ("/msg", Reply::Message));
        let input = BootstrapParams { instance_id: "other".into(), ..params };
        let error = read(&input.write_to_bytes().unwrap(), &flags(), environment(3)).unwrap_err();
        assert!(error.to_string().contains("ns/other"), "{error}");
    }

    #[test]
    fn no_address_for_events_is_an_error() {
        let error = read(&[], &flags(), Environment::default()).unwrap_err();
        assert!(error.to_string().contains("TTRPC_ADDRESS"), "{error}");
    }
}
