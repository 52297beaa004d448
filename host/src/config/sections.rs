//! The walk over the document: every section but the broker and the groups, which have
//! files of their own.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use super::{
    Admin, Config, Http, Plugins, Topic, broker, groups, names,
    read::{Field, Table},
    references::{self, Mention},
};

const HTTP_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// A record of 1 MiB, as large as Kafka takes them by default, may be six times that in JSON when all of it is escaped.
const MAX_BODY: u64 = 8 << 20;
const MAX_CONNECTIONS: usize = 16_384;

/// Reads everything. What is wrong is in the report that the tables carry; the result is of use only where that is
/// empty.
pub(super) fn config(mut root: Table<'_>, directory: &Path) -> Config {
    let mut mentions = Vec::new();
    let broker = broker::broker(root.table("broker"), directory);
    let (http, admin) = listeners(root.table("http"), root.table("admin"), &mut mentions);
    let plugins = plugins(root.table("plugins"), directory);
    let topics = topics(root.tables("topics", "name"));
    let groups = groups::groups(root.tables("groups", "id"), &broker, directory, &mut mentions);
    root.finish();

    let mut config = Config { broker, http, admin, plugins, topics, groups };
    references::add_output_topics(&mut config);
    references::check(&config, &mentions);
    config
}

/// Refuses what was named before.
pub(super) fn unique(seen: &mut HashSet<Arc<str>>, name: &Arc<str>, field: &Field<'_>) {
    if !seen.insert(name.clone()) {
        field.refuse("given before", "give each of them once");
    }
}

fn listeners<'a>(
    mut http: Table<'a>,
    mut admin: Table<'a>,
    mentions: &mut Vec<Mention<'a>>,
) -> (Http, Admin) {
    let data = http.read("listen", Field::socket).unwrap_or(HTTP_LISTEN);
    let default_topic =
        http.field("default-topic").and_then(|field| Mention::read(&field, mentions));
    let max_body = http.read("max-body", |field| field.size(1 << 10..=64 << 20));
    let max_connections = http.read("max-connections", |field| field.integer(1..=1_000_000));
    http.finish();

    let given = admin.field("listen");
    let listen = given.as_ref().and_then(Field::socket);
    if let (Some(field), Some(socket)) = (given, listen)
        && collide(socket, data)
    {
        field.refuse(
            &format!("the port that http.listen has ({data})"),
            "give another, or leave it out for the next free one",
        );
    }
    admin.finish();
    let http = Http {
        listen: data,
        default_topic,
        max_body: max_body.unwrap_or(MAX_BODY) as usize, // at most 64 MiB
        max_connections: max_connections.unwrap_or(MAX_CONNECTIONS),
    };
    (http, Admin { listen })
}

/// Whether two listeners cannot both be had. Port 0 is any free one.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap =
        one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && overlap
}

fn plugins(mut table: Table<'_>, directory: &Path) -> Plugins {
    let path = table.read("directory", |field| field.path(directory));
    table.finish();
    Plugins { directory: path.unwrap_or_else(|| directory.join("plugins")) }
}

fn topics(tables: Vec<Table<'_>>) -> Vec<Topic> {
    let mut seen = HashSet::new();
    let topic = |mut table: Table<'_>| {
        let field = table.required("name", "the topic's name");
        let name = field.and_then(|field| {
            let name = field.name(names::topic)?;
            unique(&mut seen, &name, &field);
            Some(name)
        });
        let topic = Topic {
            name: name.unwrap_or_default(),
            partitions: table.read("partitions", |field| field.integer(1..=10_000)).unwrap_or(3),
            replication_factor: table
                .read("replication-factor", |field| field.integer(1..=1_000))
                .unwrap_or(1),
            key_selector: table.field("key-selector").map(|field| groups::selector(field.table())),
        };
        table.finish();
        topic
    };
    tables.into_iter().map(topic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_collide_on_one_port_of_one_address() {
        let collide = |one: &str, other: &str| {
            one.parse().ok().zip(other.parse().ok()).map(|(one, other)| collide(one, other))
        };
        assert_eq!(collide("127.0.0.1:1", "127.0.0.1:1"), Some(true));
        assert_eq!(collide("0.0.0.0:1", "127.0.0.1:1"), Some(true));
        assert_eq!(collide("127.0.0.2:1", "127.0.0.1:1"), Some(false));
        assert_eq!(collide("127.0.0.1:1", "127.0.0.1:2"), Some(false));
        assert_eq!(collide("127.0.0.1:0", "127.0.0.1:0"), Some(false));
    }
}
