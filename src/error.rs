//! The one error type of the library.
//!
//! An error is returned or logged, never both. Its text is for a person: it names the file,
//! the field or the annotation, what was found, and what to do.

use std::fmt;

/// What a caller can act on. The shim maps these to ttrpc codes, the command line to text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The container, process or file named does not exist.
    NotFound,
    /// The container or process id is taken.
    AlreadyExists,
    /// The bundle, an argument, an annotation or a module is malformed.
    InvalidArgument,
    /// The container is in a state that does not allow the operation.
    FailedPrecondition,
    /// The operation is valid but this runtime does not offer it.
    Unsupported,
    /// The operating system, or a library on its behalf, refused.
    Os,
}

/// An error with its kind, a sentence, and the cause that led to it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The library's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The container, process or file named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Malformed input: bundle, argument, annotation or module.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// The container's state does not allow the operation.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::FailedPrecondition, message)
    }

    /// The operating system refused.
    pub fn os(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Os, message)
    }

    /// What a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Prints the message and the chain of causes on one line, each cause once: libraries repeat
/// the text of their source in their own.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut said = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// Adds a kind and a sentence to any error.
pub trait Context<T> {
    /// Wraps the error as `kind`, saying `message` first.
    fn context<M: Into<String>>(self, kind: ErrorKind, message: impl FnOnce() -> M) -> Result<T>;

    /// Wraps the error as [`ErrorKind::Os`].
    fn os<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>
    where
        Self: Sized,
    {
        self.context(ErrorKind::Os, message)
    }
}

impl<T, E> Context<T> for std::result::Result<T, E>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn context<M: Into<String>>(self, kind: ErrorKind, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|source| Error {
            kind,
            message: message().into(),
            source: Some(source.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_chain_on_one_line_without_repeating_it() {
        let inner: Result<()> =
            Err(std::io::Error::other("disk full")).os(|| "write /a: disk full");
        let outer = inner.context(ErrorKind::InvalidArgument, || "save state").unwrap_err();
        assert_eq!(outer.to_string(), "save state: write /a: disk full");
        assert_eq!(outer.kind(), ErrorKind::InvalidArgument);
    }
}
