//! What every broker promises, written once and run on each of them.
//!
//! A case is an async function over a [`fixture::Fixture`]; `every_case!` lists them all, and one line a fixture at
//! the end of this file runs them on it as tests named FIXTURE::AREA::CASE. A new case goes into a file of `cases/`
//! and into the list; a new broker goes into `fixtures/` and gets its line.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cases;
mod fixture;
mod fixtures;
mod member;

macro_rules! suite {
    ($fixture:ident; $($area:ident: $($case:ident),+;)+) => {
        mod $fixture {
            $(mod $area {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::fixture::run(
                        stringify!($case),
                        crate::fixtures::$fixture::open,
                        crate::cases::$area::$case,
                    )
                    .await;
                })+
            })+
        }
    };
}

macro_rules! every_case {
    ($fixture:ident) => {
        suite! { $fixture;
            produce:
                records_of_a_partition_come_back_in_order,
                null_and_empty_keys_and_values_are_told_apart,
                headers_repeat_keep_their_order_and_may_be_null,
                a_timestamp_is_kept_and_a_missing_one_is_given,
                a_record_of_1_mib_is_kept_whole,
                a_record_that_is_too_large_is_refused_and_the_next_is_taken,
                an_unknown_topic_is_refused,
                an_unknown_partition_is_refused,
                records_without_a_key_are_spread_over_all_partitions,
                a_given_partition_wins_over_the_key;
            keys:
                keys_get_the_partitions_that_java_gives_them;
            views:
                a_topic_is_created_once_and_then_left_as_it_is,
                a_topic_shows_its_partitions_and_their_offsets,
                records_can_be_looked_at,
                what_is_not_there_is_named,
                a_group_shows_its_members_and_what_they_committed;
            groups:
                four_members_of_three_partitions_leave_one_inactive,
                a_member_that_leaves_is_replaced,
                a_member_that_is_killed_is_replaced,
                what_a_member_keeps_goes_on_during_a_hand_over,
                many_members_come_and_go_and_every_record_is_handed_over,
                two_groups_are_independent,
                a_commit_after_the_revocation_is_refused;
            offsets:
                a_group_goes_on_where_it_committed,
                metadata_of_4096_characters_comes_back_unchanged,
                metadata_that_is_too_long_is_refused,
                earliest_begins_with_what_is_there,
                latest_begins_with_what_comes;
            positions:
                a_seek_goes_on_at_another_offset,
                a_paused_partition_is_silent_until_it_is_resumed;
            steering:
                offsets_are_found_by_time,
                a_group_without_members_begins_where_it_was_set,
                a_group_with_members_is_not_set_from_outside;
            transactions:
                records_and_offsets_of_a_transaction_come_together,
                ten_thousand_records_of_a_transaction_keep_their_order,
                records_of_a_transaction_get_the_partitions_that_others_get,
                one_record_that_has_no_place_fails_the_transaction_and_is_named,
                an_aborted_transaction_is_never_seen,
                a_member_goes_back_to_what_is_committed,
                a_member_that_began_at_the_end_goes_back_to_where_that_was,
                a_transaction_after_the_revocation_is_fenced,
                a_member_of_the_same_instance_fences_the_first,
                whoever_takes_a_transactional_id_fences_the_one_before;
        }
    };
}

every_case!(embedded);
every_case!(mock);
every_case!(kraft);
every_case!(zookeeper);
