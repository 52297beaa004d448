//! Programs that a build runs: started in the source folder, without what an outer build left in the environment, and
//! named with the command that installs them where they are not there.

use std::{
    env,
    ffi::OsStr,
    io,
    path::Path,
    process::{Command, Output},
};

use super::BuildError;

/// Variables of an outer cargo, or of whoever runs it, that are meant for the gateway and would spoil a plugin's
/// build. One that ends in `*` stands for all that begin so.
const NOT_INHERITED: [&str; 12] = [
    "CARGO_BUILD_*",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_PROFILE_*",
    "CARGO_TARGET_*",
    "CARGO_UNSTABLE_*",
    "MAKEFLAGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "__CARGO_*",
];

/// A program that may have to be installed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool {
    /// Its name, as the shell finds it.
    pub(super) program: &'static str,
    /// What it is for, as "compiles Go".
    pub(super) purpose: &'static str,
    /// How it is installed, as a sentence.
    pub(super) install: &'static str,
}

impl Tool {
    /// Runs it in `folder` to its end, whatever that is.
    pub(super) fn output<S: AsRef<OsStr>>(
        self,
        folder: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Output, BuildError> {
        self.finish(folder, command(self.program, folder).args(arguments))
    }

    /// Runs a command that was made of it to its end.
    pub(super) fn finish(self, folder: &Path, command: &mut Command) -> Result<Output, BuildError> {
        command.output().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => self.missing(folder),
            _ => BuildError::Program { program: self.program.into(), source },
        })
    }

    /// That it is not there.
    pub(super) fn missing(self, folder: &Path) -> BuildError {
        BuildError::Missing {
            folder: folder.into(),
            what: format!("`{}`", self.program),
            purpose: self.purpose,
            install: self.install.into(),
        }
    }
}

/// A program in a source folder.
pub(super) fn command(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    for (name, _) in env::vars_os() {
        let inherited =
            name.to_str().is_none_or(|name| !NOT_INHERITED.iter().any(|not| names(not, name)));
        if !inherited {
            command.env_remove(name);
        }
    }
    command
}

/// What a program printed, or that it failed with what it said.
pub(super) fn succeeded(output: Output, folder: &Path) -> Result<Vec<u8>, BuildError> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = [&output.stderr[..], &output.stdout]
        .map(|said| String::from_utf8_lossy(said).trim_end().to_owned());
    let output = said.into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join("\n");
    Err(BuildError::Compile { folder: folder.into(), output })
}

fn names(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_cargo_does_not_reach_into_the_build() {
        let kept = |name: &str| !NOT_INHERITED.iter().any(|not| names(not, name));
        for name in [
            "RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_PROFILE_RELEASE_LTO",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            assert!(!kept(name), "{name}");
        }
        for name in [
            "PATH",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "CARGO_NET_OFFLINE",
            "HTTPS_PROXY",
        ] {
            assert!(kept(name), "{name}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_what_installs_it() {
        const TOOL: Tool = Tool {
            program: "no-such-program",
            purpose: "compiles Wishes",
            install: "Ask for `it`.",
        };
        let error = TOOL.output(Path::new("/"), ["--version"]).unwrap_err();
        assert!(error.is_missing_tool());
        assert_eq!(
            error.to_string(),
            "/ is not built: `no-such-program` is not installed, which compiles Wishes. Ask for `it`."
        );
    }
}
