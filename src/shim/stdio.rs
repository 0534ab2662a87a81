//! Where a process's stdio leads: the URIs that containerd passes on.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// What containerd asked for: a URI for each stream, empty when it is not wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Where input comes from.
    pub stdin: String,
    /// Where output goes.
    pub stdout: String,
    /// Where error output goes. Unused with a terminal.
    pub stderr: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
}

/// Where a stream leads.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere.
    Null,
    /// A FIFO or file that exists.
    Path(PathBuf),
    /// A file to append to, made if need be.
    Append(PathBuf),
    /// A program that reads the output.
    Driver(Driver),
}

/// A log driver: a program and its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Driver {
    /// The program's path.
    pub program: PathBuf,
    /// The names and values of the URI's query, in their order.
    pub arguments: Vec<OsString>,
}

impl Target {
    /// Reads a stdio URI: a path, `fifo://`, `file://` or `binary://`.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::InvalidArgument`] quoting what is none of them.
    pub fn parse(uri: &str) -> Result<Self> {
        if uri.is_empty() {
            return Ok(Self::Null);
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            return match uri.starts_with('/') {
                true => Ok(Self::Path(uri.into())),
                false => Err(Error::invalid(format!("stdio {uri:?} is not an absolute path"))),
            };
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = PathBuf::from(decode(path, uri)?);
        if !path.is_absolute() {
            return Err(Error::invalid(format!("stdio {uri:?} has no absolute path")));
        }
        match scheme {
            "fifo" => Ok(Self::Path(path)),
            "file" => Ok(Self::Append(path)),
            "binary" => Ok(Self::Driver(Driver { program: path, arguments: pairs(query, uri)? })),
            _ => Err(Error::invalid(format!(
                "stdio {uri:?}: unknown scheme {scheme:?}, expected a path, fifo://, file:// or \
                 binary://"
            ))),
        }
    }
}

/// The arguments that a query stands for: each name, and after it its first value. That is what
/// Go's shims make of it, but for the order, which they leave to chance.
fn pairs(query: &str, uri: &str) -> Result<Vec<OsString>> {
    let mut arguments = Vec::new();
    let mut names = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |part: &str| decode(&part.replace('+', " "), uri);
        let name = text(name)?;
        if !names.contains(&name) {
            arguments.extend([name.clone(), text(value)?]);
            names.push(name);
        }
    }
    Ok(arguments)
}

/// Undoes the percent-encoding of a part of a URI.
fn decode(part: &str, uri: &str) -> Result<OsString> {
    let malformed = || Error::invalid(format!("stdio {uri:?} is not a valid URI"));
    let mut pieces = part.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2).ok_or_else(malformed)?;
        bytes.push(u8::from_str_radix(code, 16).map_err(|_| malformed())?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    match bytes.contains(&0) {
        true => Err(malformed()),
        false => Ok(OsString::from_vec(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn reads_stdio_uris() {
        assert_eq!(Target::parse("").unwrap(), Target::Null);
        assert_eq!(Target::parse("/a b").unwrap(), Target::Path("/a b".into()));
        assert_eq!(Target::parse("/a%20b").unwrap(), Target::Path("/a%20b".into()));
        assert_eq!(Target::parse("fifo:///x").unwrap(), Target::Path("/x".into()));
        assert_eq!(Target::parse("file:///a%20b?x=y").unwrap(), Target::Append("/a b".into()));
        assert_eq!(Target::parse("file:///%C3%A9").unwrap(), Target::Append("/é".into()));
        for bad in ["x", "file://x", "http:///x", "file:///%zz", "file:///%2", "file:///%00"] {
            assert_eq!(Target::parse(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn a_query_becomes_arguments() {
        let parsed = Target::parse("binary:///bin/log%20to?--id=a%26b&k&--id=c&text=one+two");
        let Ok(Target::Driver(driver)) = parsed else { panic!("{parsed:?}") };
        assert_eq!(driver.program, PathBuf::from("/bin/log to"));
        assert_eq!(driver.arguments, ["--id", "a&b", "k", "", "text", "one two"]);
        assert!(Target::parse("binary:///bin/log?a=%2").is_err());
        assert!(Target::parse("binary://log").is_err());
    }
}
