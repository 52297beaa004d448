//! Why a member of a group has nothing to read, in words.

use std::fmt;

use crate::config::Ordering;

/// A group as a member without a partition finds it. Displays as the reason, with what would give it work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idle {
    /// The topics that the member can read, each with its number of partitions.
    pub topics: Vec<(String, usize)>,
    /// How many partitions of those topics have a reader.
    pub taken: usize,
    /// Members of the whole group, whatever their process, this one among them.
    pub members: usize,
    /// How many of them read only other topics.
    pub elsewhere: usize,
    /// How many of them have no partition, this one among them.
    pub waiting: usize,
    /// What is handled in order, where it is known.
    pub ordering: Option<Ordering>,
}

impl Idle {
    fn partitions(&self) -> usize {
        self.topics.iter().map(|(_, partitions)| partitions).sum()
    }

    /// "3 partitions", and whose, where there are several topics.
    fn write_partitions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&count(self.partitions(), "partition"))?;
        if self.topics.len() > 1 {
            let each: Vec<_> =
                self.topics.iter().map(|(topic, number)| format!("{number} of {topic}")).collect();
            write!(f, " ({})", each.join(", "))?;
        }
        Ok(())
    }

    fn write_too_many_members(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let candidates = self.members - self.elsewhere;
        let verb = if self.waiting == 1 { "waits" } else { "wait" };
        write!(
            f,
            ": each partition has one reader, so {} {verb}. ",
            count(self.waiting, "member")
        )?;
        f.write_str("It takes over when another leaves. ")?;
        let topic = match self.topics.as_slice() {
            [(topic, _)] => format!(" of {topic}"),
            _ => String::new(),
        };
        write!(f, "With {candidates} partitions{topic} every member would have work")?;
        if self.ordering == Some(Ordering::Partition) {
            f.write_str(
                "; with ordering = \"key\" fewer members would do, since each handles many keys of its \
                 partitions at once",
            )?;
        }
        f.write_str(".")
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partitions = self.partitions();
        if self.topics.is_empty() {
            return f.write_str("No member of this group reads anything that the broker knows of.");
        }
        if partitions == 0 {
            let names: Vec<_> = self.topics.iter().map(|(topic, _)| topic.as_str()).collect();
            let (noun, verb) = if names.len() == 1 { ("topic", "does") } else { ("topics", "do") };
            let names = names.join(", ");
            return write!(
                f,
                "The {noun} {names} {verb} not exist yet, so there is nothing to read."
            );
        }
        write!(f, "{}, ", count(self.members, "member"))?;
        if self.elsewhere > 0 {
            let verb = if self.elsewhere == 1 { "reads" } else { "read" };
            write!(f, "{} of which {verb} only other topics, ", self.elsewhere)?;
        }
        self.write_partitions(f)?;
        if self.members - self.elsewhere > partitions {
            self.write_too_many_members(f)
        } else if self.taken < partitions {
            let free = partitions - self.taken;
            let (has, are) = if free == 1 { ("has", "is") } else { ("have", "are") };
            write!(f, ": {free} {has} no reader yet and {are} being handed out.")
        } else {
            f.write_str(
                ": there are enough, but the group's assignment strategy gives them all to other members. \
                 Members that read different topics, or use different strategies, can cause that.",
            )
        }
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four_on_three() -> Idle {
        Idle {
            topics: vec![("my-topic".into(), 3)],
            taken: 3,
            members: 4,
            elsewhere: 0,
            waiting: 1,
            ordering: Some(Ordering::Partition),
        }
    }

    #[test]
    fn the_fourth_member_of_three_partitions_learns_why_it_waits_and_what_would_help() {
        assert_eq!(
            four_on_three().to_string(),
            "4 members, 3 partitions: each partition has one reader, so 1 member waits. It takes over when \
             another leaves. With 4 partitions of my-topic every member would have work; with ordering = \"key\" \
             fewer members would do, since each handles many keys of its partitions at once."
        );
    }

    #[test]
    fn ordering_is_not_advised_where_it_is_not_known_or_already_so() {
        for ordering in [None, Some(Ordering::Key), Some(Ordering::None)] {
            let reason = Idle { ordering, ..four_on_three() }.to_string();
            assert!(reason.ends_with("every member would have work."), "{reason}");
        }
    }

    #[test]
    fn partitions_of_several_topics_are_counted_together_and_named_apart() {
        let idle = Idle {
            topics: vec![("a".into(), 1), ("b".into(), 2)],
            members: 5,
            waiting: 2,
            ordering: None,
            ..four_on_three()
        };
        assert_eq!(
            idle.to_string(),
            "5 members, 3 partitions (1 of a, 2 of b): each partition has one reader, so 2 members wait. It takes \
             over when another leaves. With 5 partitions every member would have work."
        );
    }

    #[test]
    fn members_that_read_only_other_topics_do_not_compete() {
        let idle = Idle { members: 5, elsewhere: 1, ordering: None, ..four_on_three() };
        let reason = idle.to_string();
        assert!(
            reason.starts_with("5 members, 1 of which reads only other topics, 3 partitions: each"),
            "{reason}"
        );
        assert!(reason.contains("With 4 partitions of my-topic"), "{reason}");
    }

    #[test]
    fn partitions_that_are_being_handed_out_are_no_reason_to_add_more() {
        let idle = Idle { members: 3, taken: 2, ..four_on_three() };
        assert_eq!(
            idle.to_string(),
            "3 members, 3 partitions: 1 has no reader yet and is being handed out."
        );
    }

    #[test]
    fn enough_partitions_and_still_none_is_laid_at_the_assignment() {
        let reason = Idle { members: 3, ..four_on_three() }.to_string();
        assert!(reason.contains("assignment strategy gives them all to other members"), "{reason}");
    }

    #[test]
    fn a_topic_that_does_not_exist_is_named() {
        let idle = Idle { topics: vec![("my-topic".into(), 0)], ..four_on_three() };
        assert_eq!(
            idle.to_string(),
            "The topic my-topic does not exist yet, so there is nothing to read."
        );
    }
}
