//! `[listen]`: what a module of WASI 0.1 is handed to accept connections from.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};
use toml::Value;

/// `[listen]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Where to listen.
    pub addresses: Addresses,
    /// Whether the listeners come before the directories, from descriptor 3 on.
    pub first: bool,
    /// Whether accepting waits for a connection. Go needs listeners that do not wait.
    pub blocking: bool,
    /// How many connections may wait to be accepted.
    pub backlog: u16,
}

impl Default for Listen {
    fn default() -> Self {
        Self { addresses: Addresses::default(), first: false, blocking: false, backlog: 1024 }
    }
}

/// Any number of addresses: text with commas, or a list of texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses(pub Vec<Listener>);

/// One address to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What the guest knows it by, `unknown` if it was given no name, as in sd_listen_fds(3).
    pub name: String,
    /// Where.
    pub address: Address,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `tcp://ADDRESS:PORT`
    Tcp(SocketAddr),
    /// `unix:///PATH`, a path in the container.
    Unix(PathBuf),
}

impl Listener {
    /// Reads `tcp://…` or `unix://…`, with or without `NAME=` before it.
    fn parse(text: &str) -> Option<Self> {
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let named = text.split_once('=').filter(|(name, _)| name.chars().all(letter));
        let (name, address) = match named {
            Some(("", _)) => return None,
            Some(named) => named,
            None => ("unknown", text),
        };
        let address = if let Some(address) = address.strip_prefix("tcp://") {
            Address::Tcp(address.parse().ok()?)
        } else {
            let path = address.strip_prefix("unix://")?;
            Address::Unix(path.starts_with('/').then(|| path.into())?)
        };
        Some(Self { name: name.to_owned(), address })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let texts: Vec<String> = match value {
            Value::String(text) => text.split(',').map(str::to_owned).collect(),
            Value::Array(values) => values.into_iter().map(text_of).collect(),
            other => vec![text_of(other)],
        };
        let texts = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        let listener = |text| {
            Listener::parse(text).ok_or_else(|| {
                de::Error::custom(format!(
                    "{text:?} is nowhere to listen: write tcp://ADDRESS:PORT, with a numeric \
                     address, or unix:///PATH, and NAME= before it if it is to have a name"
                ))
            })
        };
        texts.map(listener).collect::<Result<_, _>>().map(Self)
    }
}

/// The text of any value: what is none is no address either.
fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Integer(number) => number.to_string(),
        other => format!("a value of type {}", other.type_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String)> {
        let listener = Listener::parse(text)?;
        Some((listener.name, listener.address.to_string()))
    }

    #[test]
    fn addresses_have_a_kind_and_may_have_a_name() {
        let pair = |name: &str, address: &str| Some((name.to_owned(), address.to_owned()));
        assert_eq!(read("tcp://[::]:4222"), pair("unknown", "tcp://[::]:4222"));
        assert_eq!(read("nats=tcp://0.0.0.0:1"), pair("nats", "tcp://0.0.0.0:1"));
        assert_eq!(read("a.b-c=unix:///run/a=b"), pair("a.b-c", "unix:///run/a=b"));
        assert_eq!(read("unix:///run/a=b"), pair("unknown", "unix:///run/a=b"));
        for text in [
            "4222",
            ":4222",
            "tcp://:4222",
            "tcp://localhost:80",
            "tcp://1.2.3.4",
            "unix://run/x",
            "udp://1.2.3.4:5",
            "=tcp://1.2.3.4:5",
            "a:b=tcp://1.2.3.4:5",
            "tcp://1.2.3.4:65536",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
