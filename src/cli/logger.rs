//! The log of one command: text or JSON lines, as runc writes them, in `--log` or on standard
//! error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;

use chrono::{SecondsFormat, Utc};
use liboci_cli::GlobalOpts;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::container::diagnosis;
use crate::container::wasm::EVERYWHERE;
use crate::error::{Context, Error, ErrorKind, Result};

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    /// `None`: standard error.
    file: Option<File>,
    json: bool,
    debug: bool,
}

/// Starts logging as the global options say: warnings without `--log`, more with it, everything
/// with `--debug`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for an unknown format or a log that cannot be opened.
pub fn init(options: &GlobalOpts) -> Result<()> {
    let json = match options.log_format.as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => {
            return Err(Error::invalid(format!("--log-format {other:?}: use text or json")));
        }
    };
    let file = match &options.log {
        Some(path) => Some(
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .context(ErrorKind::InvalidArgument, || format!("--log {}", path.display()))?,
        ),
        None => None,
    };
    let level = match (&file, options.debug) {
        (_, true) => LevelFilter::Debug,
        (Some(_), false) => LevelFilter::Info,
        (None, false) => LevelFilter::Warn,
    };
    let logger = LOGGER.get_or_init(|| Logger { file, json, debug: options.debug });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
    Ok(())
}

/// Reports the error that ends the command: on standard error, and in the log if that is a file.
pub fn fatal(error: &Error) {
    if let Some(logger) = LOGGER.get()
        && logger.file.is_some()
    {
        logger.write(Level::Error, &error.to_string());
    }
    eprintln!("runwasm: {error}");
}

impl Logger {
    /// libcontainer logs every error that it also returns, several times; only `--debug` wants
    /// that.
    fn shows(&self, metadata: &Metadata<'_>) -> bool {
        self.debug || metadata.target().starts_with(env!("CARGO_PKG_NAME"))
    }

    fn write(&self, level: Level, message: &str) {
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let level = match level {
            Level::Warn => "warning".to_owned(),
            level => level.as_str().to_lowercase(),
        };
        let line = if self.json {
            format!("{}\n", serde_json::json!({"level": level, "msg": message, "time": time}))
        } else {
            format!("time={time:?} level={level} msg={message:?}\n")
        };
        // One write a line, so that lines of concurrent commands do not mix. A log that cannot be
        // written must not fail the command.
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.shows(metadata) || is_library_error(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if is_library_error(record.metadata()) {
            diagnosis::note(&record.args().to_string());
        }
        if self.shows(record.metadata()) {
            self.write(record.level(), &record.args().to_string());
        }
        if self.file.is_some() && record.target() == EVERYWHERE {
            eprintln!("runwasm: {}", record.args());
        }
    }

    fn flush(&self) {}
}

fn is_library_error(metadata: &Metadata<'_>) -> bool {
    metadata.level() == Level::Error && diagnosis::is_library(metadata.target())
}
