//! SIGTERM and Ctrl-C: the first asks for a drain, the second ends the process at once.

use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Error;

/// Listens for signals from now on; the future that it gives resolves at the first.
///
/// # Errors
/// The process cannot install a handler.
pub(super) fn shutdown() -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        let name = either(&mut interrupt, &mut terminate).await;
        tracing::info!(signal = name, "Finishing what is in flight; a second signal ends at once.");
        tokio::spawn(async move {
            let name = either(&mut interrupt, &mut terminate).await;
            tracing::warn!(signal = name, "Ended before what was in flight was finished.");
            process::exit(1);
        });
    })
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|error| Error::Failed(format!("cannot listen for signals: {error}")))
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
