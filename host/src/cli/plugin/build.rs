//! `keyway plugin build`

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{
    cli::{Error, settings::Settings, text::Style},
    plugin::build::{self, Language},
};

/// Where what can be used again is kept, seen from the working directory.
pub(in crate::cli) const TARGET_DIRECTORY: &str = "target/plugins";

#[derive(Debug, Args)]
pub(in crate::cli) struct Build {
    /// Source folders [default: the working directory where it is one, else those in the directory of plugins]
    folders: Vec<PathBuf>,
    /// Where the components go [default: beside each folder]
    #[arg(long, value_name = "DIRECTORY")]
    into: Option<PathBuf>,
}

impl Build {
    /// Builds as many as it can.
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<(), Error> {
        let folders = match self.folders.is_empty() {
            true => default_folders(settings)?,
            false => self.folders,
        };
        let (mut out, style) = (io::stdout(), Style::of_stdout());
        let mut failures = 0;
        for folder in &folders {
            match build(folder, self.into.as_deref()) {
                Ok(built) => {
                    let component = built.component.display().to_string();
                    let state = if built.changed { "" } else { ", as it was" };
                    writeln!(out, "{} {}{state}", style.good("built"), style.bold(&component))?;
                }
                Err(error) => {
                    failures += 1;
                    writeln!(out, "{}", style.bad(&error.to_string()))?;
                }
            }
        }
        match failures {
            0 => Ok(()),
            _ => Err(Error::Failed(format!("{failures} of {} not built", folders.len()))),
        }
    }
}

fn build(folder: &Path, into: Option<&Path>) -> Result<build::Built, build::BuildError> {
    let destination = into.map_or_else(|| beside(folder), Path::to_owned);
    let folders = [folder.to_owned()];
    let mut built = build::build(&folders, Path::new(TARGET_DIRECTORY), &destination)?;
    Ok(built.pop().expect("one folder builds to one component"))
}

/// The directory that a folder is in. It may be given as `.`, which has no name to take off.
fn beside(folder: &Path) -> PathBuf {
    match folder.file_name() {
        Some(_) => folder.with_file_name(""),
        None => folder.join(".."),
    }
}

fn default_folders(settings: &Settings) -> Result<Vec<PathBuf>, Error> {
    let here = PathBuf::from(".");
    if Language::of(&here).is_some() {
        return Ok(vec![here]);
    }
    let directory = settings.load()?.plugins.directory.clone();
    let folders = build::source_folders(&directory);
    if folders.is_empty() {
        let directory = directory.display();
        return Err(Error::Failed(format!(
            "there is no source folder in {directory}; `keyway plugin new` makes one"
        )));
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_goes_beside_its_folder() {
        for (folder, directory) in [
            ("plugins/x", "plugins"),
            ("plugins/x/", "plugins"),
            ("/x", "/"),
            ("x", ""),
            (".", "./.."),
        ] {
            assert_eq!(beside(Path::new(folder)), Path::new(directory), "{folder}");
        }
    }
}
