//! `list`.

use std::io::Write;
use std::path::Path;

use liboci_cli::List;

use super::state::{StateView, print_json};
use crate::container::state::Container;
use crate::error::{Context, Error, Result};

/// Prints all containers: as a table, as JSON, or their ids.
///
/// # Errors
/// For an unknown `--format`.
pub fn list(root: &Path, args: &List) -> Result<()> {
    let mut containers: Vec<Container> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        // One that is being created or deleted right now is skipped.
        .filter_map(|entry| Container::load(root, entry.file_name().to_str()?).ok())
        .collect();
    containers.sort_by(|a, b| a.id().cmp(b.id()));
    let mut out = std::io::stdout().lock();
    if args.quiet {
        let ids: String =
            containers.iter().map(|container| format!("{}\n", container.id())).collect();
        return out.write_all(ids.as_bytes()).os(|| "write to standard output");
    }
    let views: Vec<_> = containers.iter().map(StateView::new).collect();
    match args.format.as_str() {
        "json" => print_json(&views),
        "table" => out.write_all(table(&views).as_bytes()).os(|| "write to standard output"),
        other => Err(Error::invalid(format!("--format {other:?}: use table or json"))),
    }
}

fn table(views: &[StateView]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows: Vec<_> =
        std::iter::once(header).chain(views.iter().map(StateView::columns)).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}
