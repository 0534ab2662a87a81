//! `cache`: what the compile cache holds, and changing it.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use clap::Subcommand;
use serde_json::json;

use super::state::print_json;
use crate::config::{Config, Size, Sources};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::oci::wasm_file::Format;
use crate::oci::workload::WasmFile;
use crate::wasm::cache::contents::{self, Item, Removed};
use crate::wasm::cache::directory;
use crate::wasm::module::compile_into_cache;

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List the entries, the most recently used first
    List {
        /// table or json
        #[arg(long, short, default_value = "table")]
        format: String,
    },
    /// Compile modules now, so that their first start is fast
    Add {
        /// WebAssembly modules or components
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Remove entries that can never be used, then the least recently used ones down to a size
    Prune {
        /// The size to get to, such as 1GiB; the configured one if not given
        #[arg(long, value_parser = parse_size)]
        size: Option<Size>,
    },
    /// Remove everything; running containers are not affected
    Clear,
}

fn parse_size(text: &str) -> Result<Size, String> {
    Size::parse(text).ok_or_else(|| "write bytes, or a text like 64MiB".to_owned())
}

/// Does what `command` says with the cache of this user.
///
/// # Errors
/// When the cache cannot be read or written, and for files that cannot be compiled.
pub fn cache(command: &Command, sources: &Sources) -> Result<()> {
    let config = sources.load(None)?;
    match command {
        Command::List { format } => list(&present(&config)?, format),
        Command::Add { files } => files.iter().try_for_each(|file| add(file, &config)),
        Command::Prune { size } => {
            let Some(dir) = existing(&config)? else { return report(&Removed::default()) };
            let useless = contents::remove_useless(&dir)?;
            let old = contents::shrink(&dir, size.unwrap_or(config.cache.size).0)?;
            report(&useless.and(&old))
        }
        Command::Clear => match existing(&config)? {
            Some(dir) => report(&contents::clear(&dir)?),
            None => report(&Removed::default()),
        },
    }
}

/// The cache's directory, if there is one yet.
fn existing(config: &Config) -> Result<Option<PathBuf>> {
    let dir = directory(config).ok_or_else(|| {
        Error::invalid("neither XDG_CACHE_HOME nor HOME is set; set cache.directory")
    })?;
    Ok(Some(dir).filter(|dir| dir.exists()))
}

fn present(config: &Config) -> Result<Vec<Item>> {
    let mut items =
        existing(config)?.map_or_else(|| Ok(Vec::new()), |dir| contents::items(&dir))?;
    items.reverse();
    Ok(items)
}

fn list(items: &[Item], format: &str) -> Result<()> {
    let in_use = contents::in_use();
    match format {
        "json" => print_json(&items.iter().map(|item| as_json(item, &in_use)).collect::<Vec<_>>()),
        "table" => print_table(items, &in_use),
        other => Err(Error::invalid(format!("--format {other:?}: use table or json"))),
    }
}

fn as_json(item: &Item, in_use: &std::collections::HashSet<String>) -> serde_json::Value {
    let used = chrono::DateTime::<chrono::Utc>::from(item.used);
    let key = item.key();
    let in_use = in_use.contains(&key);
    let common = json!({"key": key, "size": item.size, "lastUsed": used, "inUse": in_use});
    let more = match item.description() {
        Ok(description) => {
            json!({"module": description.name, "moduleSize": description.module_size})
        }
        Err(problem) => json!({"problem": problem}),
    };
    let fields = [common, more].into_iter().filter_map(|value| match value {
        serde_json::Value::Object(fields) => Some(fields),
        _ => None,
    });
    serde_json::Value::Object(fields.flatten().collect())
}

fn print_table(items: &[Item], in_use: &std::collections::HashSet<String>) -> Result<()> {
    let mut out = io::stdout().lock();
    let mut line = |cells: [&str; 6]| {
        let [key, size, module_size, used, state, module] = cells;
        writeln!(out, "{key:<12}  {size:>10}  {module_size:>10}  {used:>8}  {state:<6}  {module}")
            .os(|| "write to standard output")
    };
    line(["KEY", "SIZE", "MODULE", "USED", "STATE", "FOR"])?;
    for item in items {
        let key = item.key();
        let state = if in_use.contains(&key) { "in use" } else { "" };
        let (module_size, module) = match item.description() {
            Ok(description) => (bytes(description.module_size), description.name),
            Err(problem) => (String::new(), format!("({problem})")),
        };
        let short = key.get(..12).unwrap_or(&key);
        line([short, &bytes(item.size), &module_size, &age(item.used), state, &module])?;
    }
    Ok(())
}

/// A number of bytes for a person.
pub(super) fn bytes(count: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", count as f64 / unit as f64),
        None => format!("{count} B"),
    }
}

/// How long ago something was, for a person.
fn age(time: SystemTime) -> String {
    // The clock may have been set back.
    let seconds = time.elapsed().unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

fn add(path: &Path, config: &Config) -> Result<()> {
    let shown = path.display();
    let file = File::open(path).context(ErrorKind::InvalidArgument, || format!("{shown}"))?;
    let text = path.extension().is_some_and(|extension| extension == "wat");
    let format = Format::of(&file, text).os(|| format!("read {shown}"))?;
    if !format.is_wasm() {
        return Err(Error::invalid(format!("{shown} is {}", format.describe())));
    }
    let start = Instant::now();
    let wasm = WasmFile { file, path: path.to_owned(), format, export: None };
    compile_into_cache(&wasm, config, show_progress)?;
    eprintln!("\r{shown}: ready after {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// On a terminal one line that changes, in a log one line a minute.
fn show_progress(name: &str, elapsed: Duration) {
    let seconds = elapsed.as_secs();
    if io::stderr().is_terminal() {
        eprint!("\r{name}: compiling, {seconds} s");
    } else if seconds % 60 == 1 {
        eprintln!("{name}: compiling, {seconds} s");
    }
}

fn report(removed: &Removed) -> Result<()> {
    let text = format!("removed {} files, {}\n", removed.files, bytes(removed.bytes));
    io::stdout().write_all(text.as_bytes()).os(|| "write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
        let ago = |seconds| age(SystemTime::now() - Duration::from_secs(seconds));
        assert_eq!([ago(5), ago(120), ago(7200), ago(200_000)], ["5 s", "2 min", "2 h", "2 d"]);
    }
}
