//! `keyway check`

use std::io::{self, Write};

use super::{Error, run::runtime, settings::Settings, text::Style};
use crate::app::{self, Finding};

pub(super) fn check(settings: &Settings) -> Result<(), Error> {
    let config = settings.load()?;
    let findings = runtime()?.block_on(app::check(&config));
    let out = &mut io::stdout().lock();
    let style = Style::of_stdout();
    writeln!(out, "configuration: {}", style.good("ok"))?;
    report(out, findings, style)
}

/// Prints everything that was found. Whatever is wrong with the configuration decides on the exit code: it stays wrong,
/// a broker may come back.
fn report(out: &mut dyn Write, findings: Vec<Finding>, style: Style) -> Result<(), Error> {
    let (mut wrong, mut failed) = (0, 0);
    for Finding { part, result } in findings {
        match &result {
            Ok(text) => writeln!(out, "{part}: {} {text}", style.good("ok"))?,
            Err(error) => writeln!(out, "{part}: {} {error}", style.bad("wrong:"))?,
        }
        match result {
            Ok(_) => {}
            Err(app::Error::Configuration(_)) => wrong += 1,
            Err(app::Error::Failed(_)) => failed += 1,
        }
    }
    let all = format!("{} of what was checked is not right", wrong + failed);
    match (wrong, failed) {
        (0, 0) => Ok(()),
        (0, _) => Err(Error::Failed(all)),
        _ => Err(Error::Usage(all)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_reported_and_a_wrong_configuration_outweighs_a_broker_that_is_down() {
        let findings = vec![
            Finding { part: "plugin a".into(), result: Ok("(handler)".into()) },
            Finding {
                part: "plugin b".into(),
                result: Err(app::Error::Configuration("exports no handler".into())),
            },
            Finding { part: "broker".into(), result: Err(app::Error::Failed("refused".into())) },
        ];
        let mut out = Vec::new();
        let result = report(&mut out, findings, Style::plain());
        assert!(matches!(result, Err(Error::Usage(_))), "{result:?}");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "plugin a: ok (handler)\nplugin b: wrong: exports no handler\nbroker: wrong: refused\n"
        );
    }
}
