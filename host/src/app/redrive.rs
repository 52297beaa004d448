//! Dead letters through a handler that an operator names. Which letters, and what is written of it, is `admin`'s matter.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::replay::Means;
use crate::{
    admin::dead_letters::{Through, Unhandled},
    broker::{Broker, ProduceError},
    config::{Config, Group, PluginUse},
    dispatch::{Verdict, judge},
    handler::{Delivery, Handler, Outcome, SelectError},
    produce::SendError,
    record::{NewRecord, Record},
};

/// How often output whose place cannot be chosen now is tried, and how far apart.
const CHOOSE_TRIES: u32 = 20;
const CHOOSE_WAIT: std::time::Duration = std::time::Duration::from_millis(250);

/// One plugin, with the configuration, limits and allow-list of each group that it stands in for.
pub(super) struct OtherHandler {
    means: Means,
    plugin: Arc<str>,
    handlers: Mutex<HashMap<Arc<str>, Arc<dyn Handler>>>,
}

/// A handler where no gateway runs, with plugins loaded for it alone.
///
/// # Errors
/// What is wrong with the configuration's plugins, or with this one in the place of a group's.
pub async fn through_alone(
    broker: Arc<dyn Broker>,
    config: &Config,
    plugin: &str,
) -> Result<Arc<dyn Through>, String> {
    let means = Means::alone(broker, config).await.map_err(|error| error.to_string())?;
    through(means, config, plugin).await
}

/// `plugin` in the place of the handler of each group of `config`.
pub(super) async fn through(
    means: Means,
    config: &Config,
    plugin: &str,
) -> Result<Arc<dyn Through>, String> {
    let handlers = Mutex::default();
    let through = OtherHandler { means, plugin: plugin.into(), handlers };
    for group in &config.groups {
        through.handler(group).await?;
    }
    Ok(Arc::new(through))
}

impl OtherHandler {
    async fn handler(&self, group: &Group) -> Result<Arc<dyn Handler>, String> {
        let mut handlers = self.handlers.lock().await;
        if let Some(handler) = handlers.get(&group.id) {
            return Ok(handler.clone());
        }
        let used = PluginUse { plugin: self.plugin.clone(), ..group.handler.clone() };
        let owner = format!("a redrive for group {}", group.id);
        let output = group.output_topic.clone();
        let made = self.means.plugins.handler(&owner, &used, output, group.isolation, 1).await;
        let handler = made.map_err(|error| error.to_string())?;
        handlers.insert(group.id.clone(), handler.clone());
        Ok(handler)
    }

    /// Chooses where output goes.
    async fn choose(&self, records: &mut [NewRecord]) -> Result<(), Unhandled> {
        for record in records {
            let mut tries = 0;
            while let Err(error) = self.means.producer.choose(record).await {
                let refused = format!("its output to {:?} was refused: {error}", record.topic);
                tries += 1;
                match error {
                    SendError::Select(SelectError::Busy)
                    | SendError::Produce(ProduceError::Unavailable { .. })
                        if tries < CHOOSE_TRIES =>
                    {
                        tokio::time::sleep(CHOOSE_WAIT).await;
                    }
                    SendError::Produce(ProduceError::Unavailable { reason }) => {
                        return Err(Unhandled::Failed(reason));
                    }
                    _ => return Err(Unhandled::GivenUp(refused)),
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Through for OtherHandler {
    fn name(&self) -> &str {
        &self.plugin
    }

    async fn handle(&self, group: &Group, record: Record) -> Result<Vec<NewRecord>, Unhandled> {
        let handler = self.handler(group).await.map_err(Unhandled::Failed)?;
        let mut delivery = Delivery { record, attempt: 1 };
        loop {
            let mut report = handler.handle(vec![delivery.clone()]).await;
            let Some(outcome) = report.outcomes.pop() else { continue };
            match judge(&group.retry, delivery.attempt, &outcome, fastrand::f64()) {
                Some(Verdict::Again { after, .. }) => {
                    tokio::time::sleep(after).await;
                    delivery.attempt += 1;
                }
                Some(Verdict::GiveUp { reason }) => return Err(Unhandled::GivenUp(reason)),
                None => {
                    let Outcome::Handled(mut records) = outcome else { continue };
                    self.choose(&mut records).await?;
                    return Ok(records);
                }
            }
        }
    }
}
