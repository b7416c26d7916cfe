use crate::exit::{Exit, Failure};
use crate::output::Output;
use clap_mangen::Man;
use std::path::{Path, PathBuf};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  taskyard man | man -l -
  taskyard man --dir ~/.local/share/man/man1          then: man taskyard-submit";

#[derive(clap::Args)]
pub(crate) struct ManArgs {
    /// Write taskyard.1 and a page for each command into this folder, which is made if it is missing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the manual page of the whole, or writes all pages.
pub(crate) fn run(
    args: &ManArgs,
    command: &clap::Command,
    output: &Output,
) -> Result<Exit, Failure> {
    match &args.dir {
        None => output.bytes(&page(command.clone())?),
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(|error| wrong(dir, &error))?;
            for (name, page) in pages(command)? {
                let file = dir.join(format!("{name}.1"));
                std::fs::write(&file, page).map_err(|error| wrong(&file, &error))?;
                output.line(&file.display().to_string());
            }
        }
    }
    Ok(Exit::Done)
}

/// All pages with their names.
fn pages(command: &clap::Command) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut command = command.clone().disable_help_subcommand(true);
    // Flags that hold for all commands get into each of them.
    command.build();
    let mut pages = Vec::new();
    let mut open = vec![command];
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        pages.push((name, page(command)?));
    }
    pages.sort();
    Ok(pages)
}

fn page(command: clap::Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let rendered = Man::new(command.disable_help_subcommand(true)).render(&mut page);
    rendered.map_err(|error| Failure::new(Exit::Bug, format!("no manual page: {error}")))?;
    Ok(page)
}

fn wrong(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::NotSucceeded, format!("{} cannot be written: {error}", path.display()))
}
