//! The file of what is expected: a line for each record, in their order. Pure.

use super::{
    ending::{Difference, Ending},
    records::{lines, read},
};

/// What is expected of each record.
#[derive(Debug, Default)]
pub(super) struct Expectation {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    number: usize,
    text: String,
    ending: Ending,
}

/// What an expectation says of one record's call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It ended as it should.
    Met,
    /// It ended otherwise than the line of this number says.
    Differs(usize, Vec<Difference>),
    /// There is no line for it.
    NothingExpected,
}

impl Expectation {
    /// Reads what stands in the file `name`. Empty lines are none.
    ///
    /// # Errors
    /// The first line that is wrong, with its place.
    pub(super) fn parse(text: &str, name: &str) -> Result<Self, String> {
        let line = |(number, text): (usize, &str)| {
            let ending: Ending = read(text, name, number)?;
            Ok::<_, String>(Line { number, text: text.trim().to_owned(), ending })
        };
        Ok(Self { lines: lines(text).map(line).collect::<Result<_, _>>()? })
    }

    /// Whether the call for the record of this index ended as it should.
    pub(super) fn judge(&self, index: usize, got: &Ending) -> Verdict {
        let Some(line) = self.lines.get(index) else { return Verdict::NothingExpected };
        match line.ending.differences(got) {
            differences if differences.is_empty() => Verdict::Met,
            differences => Verdict::Differs(line.number, differences),
        }
    }

    /// The lines that have no record, where there are only so many: the number of the first, and how many they are.
    pub(super) fn beyond(&self, records: usize) -> Option<(usize, usize)> {
        let first = self.lines.get(records)?;
        Some((first.number, self.lines.len() - records))
    }

    /// The line that is to stand for the record of this index: the one that is there where it is met, which may leave out
    /// what varies, or one that says everything.
    pub(super) fn line(&self, index: usize, got: &Ending) -> String {
        match (self.judge(index, got), self.lines.get(index)) {
            (Verdict::Met, Some(line)) => line.text.clone(),
            _ => serde_json::to_string(&got.expectation()).expect("it has no key but texts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Outcome;

    fn rejected(reason: &str) -> Ending {
        Ending::of_outcome(Outcome::Reject { reason: reason.into() })
    }

    fn parse(text: &str) -> Expectation {
        Expectation::parse(text, "expected.jsonl").unwrap()
    }

    #[test]
    fn lines_stand_for_records_in_their_order() {
        let expectation =
            parse("{\"outcome\":\"rejected\"}\n\n{\"outcome\":\"rejected\",\"reason\":\"a\"}\n");
        assert_eq!(expectation.judge(0, &rejected("b")), Verdict::Met);
        let Verdict::Differs(3, differences) = expectation.judge(1, &rejected("b")) else {
            panic!("it was met")
        };
        assert_eq!(differences[0].what, "reason");
        assert_eq!(expectation.judge(2, &rejected("b")), Verdict::NothingExpected);
    }

    #[test]
    fn lines_without_a_record_are_counted() {
        let expectation =
            parse("{\"outcome\":\"spread\"}\n\n{\"outcome\":\"spread\"}\n{\"outcome\":\"spread\"}");
        assert_eq!(expectation.beyond(3), None);
        assert_eq!(expectation.beyond(1), Some((3, 2)));
    }

    #[test]
    fn a_line_that_is_met_stays_as_it_was_written() {
        let expectation =
            parse("{ \"outcome\": \"rejected\" }\n{\"outcome\":\"rejected\",\"reason\":\"a\"}\n");
        assert_eq!(expectation.line(0, &rejected("b")), "{ \"outcome\": \"rejected\" }");
        assert_eq!(expectation.line(1, &rejected("b")), r#"{"outcome":"rejected","reason":"b"}"#);
        assert_eq!(expectation.line(2, &rejected("c")), r#"{"outcome":"rejected","reason":"c"}"#);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error =
            Expectation::parse("{\"outcome\":\"spread\"}\n{\"outcome\":\"gone\"}", "e.jsonl")
                .unwrap_err();
        assert!(
            error.starts_with("e.jsonl:2:17: unknown variant `gone`, expected one of"),
            "{error}"
        );
    }
}
