//! What every broker promises, written once and run on each of them.
//!
//! A case is an async function over a [`fixture::Fixture`]; `every_case!` lists them all, and one line a fixture at
//! the end of this file runs them on it as tests named FIXTURE::AREA::CASE. A new case goes into a file of `cases/`
//! and into the list; a new broker goes into `fixtures/` and gets its line.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "until every case is there")]

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
                records_of_a_partition_come_back_in_order;
            keys:
                keys_get_the_partitions_that_java_gives_them;
        }
    };
}

every_case!(embedded);
every_case!(mock);
every_case!(kraft);
every_case!(zookeeper);
