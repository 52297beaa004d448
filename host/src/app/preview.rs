//! The two key selectors of a look at where records would go. What is looked at is `admin`'s matter.

use std::sync::Arc;

use crate::{
    admin::preview::{Other, Sides},
    config::{Allow, Config, Limits, PluginUse, Source},
    plugin::{GenerationError, Host},
};

/// The selector of `topic` as it serves, and the other.
pub(super) async fn selectors(
    plugins: &Host,
    config: &Config,
    topic: &str,
    other: &Other,
) -> Result<Sides, GenerationError> {
    let configured = config.topics.iter().find(|configured| *configured.name == *topic);
    let used = configured.and_then(|configured| configured.key_selector.as_ref());
    let owner = format!("a preview for topic {topic}");
    let other = match other {
        Other::Caller => None,
        Other::Selector { source, config } => {
            let mut used = match used {
                Some(used) => used.clone(),
                None => of_file(topic, source.as_ref())?,
            };
            used.config = config.clone().unwrap_or(used.config);
            Some(plugins.preview(&owner, &used, source.as_ref()).await?)
        }
    };
    let serving = match used {
        Some(used) => Some(plugins.preview(&owner, used, None).await?),
        None => None,
    };
    Ok(Sides { serving, other })
}

/// A topic without a key selector can be given one for the look.
fn of_file(topic: &str, source: Option<&Source>) -> Result<PluginUse, GenerationError> {
    let name = match source {
        Some(Source::File(file)) => file.file_stem().map(|name| name.to_string_lossy().into()),
        _ => None,
    };
    let plugin: Arc<str> = name.ok_or_else(|| GenerationError::NoSelector(topic.into()))?;
    let (limits, allow) = (Limits::default(), Allow::default());
    Ok(PluginUse { plugin, config: Default::default(), limits, allow })
}
