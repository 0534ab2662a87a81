//! Prints what a container gives its program, one fact a line.
//!
//! The C, Go and shell programs beside this one print the same lines in the same order, so
//! `diff` shows any difference in what they are given.

use std::io::{self, Write};
use std::{env, fs};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "hello from Rust")?;
    for (index, arg) in env::args().enumerate() {
        writeln!(out, "arg {index}: {arg}")?;
    }
    let mut variables: Vec<_> =
        env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    variables.sort();
    for variable in variables {
        writeln!(out, "env: {variable}")?;
    }
    match env::current_dir() {
        Ok(dir) => writeln!(out, "cwd: {}", dir.display())?,
        Err(_) => writeln!(out, "cwd: unknown")?,
    }
    list(&mut out, "/")?;
    list(&mut out, ".")
}

/// One line for each entry of `dir`, sorted; a directory's name ends in a slash.
fn list(out: &mut impl Write, dir: &str) -> io::Result<()> {
    let Ok(names) = names(dir) else {
        return writeln!(out, "files in {dir}: cannot be read");
    };
    for name in names {
        writeln!(out, "files in {dir}: {name}")?;
    }
    Ok(())
}

fn names(dir: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    Ok(names)
}
