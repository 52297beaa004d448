//! The gateway with native code in place of each group's component: what is left is what the component costs.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use keyway::{
    app::{Gateway, Options, Role},
    config::Config,
    handler::{Delivery, Generation, Handler, Outcome, RunReport, RunReports},
    record::NewRecord,
};

use crate::error::Result;

/// What the native code makes of a record.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Code {
    /// Nothing.
    Noop,
    /// A record in upper case, for the topic that the configuration's one group writes to.
    Uppercase,
}

/// Runs the groups of `keyway.toml` in the working directory until it is killed.
pub(crate) fn serve(code: Code) -> Result<()> {
    let loaded = Config::load(Some("keyway.toml".as_ref()), [])?;
    let output = loaded.config.groups.first().and_then(|group| group.output_topic.clone());
    let output = output.unwrap_or_default();
    let wrap = move |_group: &Arc<str>, component: Arc<dyn Handler>| -> Arc<dyn Handler> {
        Arc::new(Native { code, output: output.clone(), component })
    };
    let options = Options {
        only: Some(Role::Groups),
        wrap_handler: Some(Arc::new(wrap)),
        ..Options::default()
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let gateway = Gateway::build(Arc::new(loaded.config), options).await?;
        gateway.run(std::future::pending()).await
    })?;
    Ok(())
}

struct Native {
    code: Code,
    output: Arc<str>,
    /// Whose place it takes.
    component: Arc<dyn Handler>,
}

impl Handler for Native {
    fn handle(&self, run: Vec<Delivery>) -> BoxFuture<'static, RunReport> {
        let reports = self.handle_runs(vec![run]);
        Box::pin(async move { reports.await.over.remove(0) })
    }

    fn handle_runs(&self, runs: Vec<Vec<Delivery>>) -> BoxFuture<'static, RunReports> {
        let (code, output, generation) = (self.code, self.output.clone(), self.generation());
        // On another thread, as a component's call is.
        let work = tokio::spawn(async move {
            let report = |deliveries: Vec<Delivery>| {
                let outcomes = deliveries.iter().map(|delivery| handle(code, &output, delivery));
                let outcomes = outcomes.collect();
                RunReport { generation: generation.clone(), on_trial: false, outcomes, deliveries }
            };
            let over: Vec<_> = runs.into_iter().map(report).collect();
            RunReports { waiting: None, quick: over.len(), over }
        });
        Box::pin(async move { work.await.expect("it does not panic") })
    }

    fn generation(&self) -> Generation {
        self.component.generation()
    }
}

fn handle(code: Code, output: &Arc<str>, Delivery { record, .. }: &Delivery) -> Outcome {
    Outcome::Handled(match code {
        Code::Noop => Vec::new(),
        Code::Uppercase => {
            let value = record.value.as_ref();
            vec![NewRecord {
                topic: output.clone(),
                partition: None,
                timestamp: None,
                key: record.key.clone(),
                value: value.map(|value| Bytes::from(value.to_ascii_uppercase())),
                headers: record.headers.clone(),
            }]
        }
    })
}
