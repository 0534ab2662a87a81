//! The program beside this one, on WASI 0.3 alone: `run` is asynchronous, directories are read
//! from streams, and what it prints goes into a stream.

use wasip3::cli::{environment, stdout};
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, OpenFlags, PathFlags,
};
use wasip3::wit_stream;

struct Hello;

wasip3::cli::command::export!(Hello);

impl wasip3::exports::cli::run::Guest for Hello {
    async fn run() -> Result<(), ()> {
        let mut lines = vec!["hello from Rust on WASI 0.3".to_owned()];
        for (index, arg) in environment::get_arguments().iter().enumerate() {
            lines.push(format!("arg {index}: {arg}"));
        }
        let mut variables = environment::get_environment();
        variables.sort();
        lines.extend(variables.iter().map(|(name, value)| format!("env: {name}={value}")));
        let cwd = environment::get_initial_cwd().unwrap_or("/".to_owned());
        lines.push(format!("cwd: {cwd}"));
        for (label, path) in [("/", "/"), (".", cwd.as_str())] {
            match names(path).await {
                Some(names) => {
                    lines.extend(names.iter().map(|name| format!("files in {label}: {name}")))
                }
                None => lines.push(format!("files in {label}: cannot be read")),
            }
        }
        print(lines.join("\n") + "\n").await
    }
}

/// The entries of a directory, sorted; a directory's name ends in a slash.
async fn names(path: &str) -> Option<Vec<String>> {
    let (entries, end) = open(path).await?.read_directory();
    let entries = entries.collect().await;
    end.await.ok()?;
    let name = |entry: wasip3::filesystem::types::DirectoryEntry| {
        let directory = matches!(entry.type_, DescriptorType::Directory);
        let slash = if directory { "/" } else { "" };
        format!("{}{slash}", entry.name)
    };
    let mut names: Vec<_> = entries.into_iter().map(name).collect();
    names.sort();
    Some(names)
}

/// Opens a directory below the root, which is what the container's first preopen is.
async fn open(path: &str) -> Option<Descriptor> {
    let (root, _) = preopens::get_directories().into_iter().find(|(_, name)| name == "/")?;
    let path = match path.trim_start_matches('/') {
        "" => ".",
        path => path,
    };
    let (path, flags) = (path.to_owned(), DescriptorFlags::READ);
    root.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::DIRECTORY, flags).await.ok()
}

async fn print(text: String) -> Result<(), ()> {
    let (mut writer, reader) = wit_stream::new();
    let written = stdout::write_via_stream(reader);
    let rest = writer.write_all(text.into_bytes()).await;
    drop(writer);
    match written.await {
        Ok(()) if rest.is_empty() => Ok(()),
        _ => Err(()),
    }
}
