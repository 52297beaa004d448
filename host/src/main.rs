//! The life story of the process: parse, log, run the command, say how it ended.

use std::process::ExitCode;

use keyway::{
    cli::{Cli, Error},
    telemetry,
};

fn main() -> ExitCode {
    let cli = match Cli::from_arguments() {
        Ok(cli) => cli,
        Err(ended) => return ended,
    };
    let done = telemetry::init(cli.log_filter()).map_err(Error::Usage).and_then(|()| cli.run());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
