//! Opening the file: whose it is, which version, and how every connection to it is set up.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{OpenError, error::StoreError};

/// `KEYW`: marks the file as a log of Keyway.
const APPLICATION_ID: i64 = 0x4b45_5957;
/// The form of the tables below.
const VERSION: i64 = 1;

/// Records are in one table by `position`, which is partition and offset in one number. A table with an integer key
/// rather than `WITHOUT ROWID`: large bodies then stay out of the inner pages of the tree. `partitions.ending` says
/// more than the last record does: it keeps offsets from restarting when retention has emptied a partition, and
/// shows when records are missing that should be there. `kept` names the topics that retention leaves alone.
const TABLES: &str = "
    CREATE TABLE topics (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        partitions INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE partitions (
        id INTEGER PRIMARY KEY,
        topic INTEGER NOT NULL,
        number INTEGER NOT NULL,
        beginning INTEGER NOT NULL,
        ending INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE records (
        position INTEGER PRIMARY KEY,
        timestamp INTEGER NOT NULL,
        written INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE commits (
        consumer_group TEXT NOT NULL,
        partition INTEGER NOT NULL,
        committed INTEGER NOT NULL,
        metadata TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (consumer_group, partition)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE kept (topic INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE probe (id INTEGER PRIMARY KEY, room BLOB NOT NULL) STRICT;
";

/// The file in `directory`.
pub(super) fn file(directory: &Path) -> PathBuf {
    directory.join("keyway.db")
}

/// Opens the log for writing, making it when it is missing or empty. It grows to `pages` at most.
pub(super) fn open(path: &Path, pages: Option<u32>) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = connect(path, flags).map_err(|error| opening(path, error))?;
    let is_new = identify(path, &connection)?;
    set_up(&mut connection, is_new, pages).map_err(|error| opening(path, error))?;
    if is_new && let Some(directory) = path.parent() {
        // The file's name must last as long as what is in it.
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| OpenError::Directory { path: directory.into(), source })?;
    }
    Ok(connection)
}

/// Another connection to a log that is open for writing, which only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Another connection to a log that is open for writing, to move what is in the write-ahead log into the file.
pub(super) fn open_checkpointer(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Whether the file is new. Reads only: a file that is not ours is left as it is.
fn identify(path: &Path, connection: &Connection) -> Result<bool, OpenError> {
    let foreign = |found: String| OpenError::Foreign { path: path.into(), found };
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let application = match number("application_id") {
        Ok(application) => application,
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(foreign("it is no SQLite file".into()));
        }
        Err(error) => return Err(opening(path, error.into())),
    };
    if application == APPLICATION_ID {
        let found = number("user_version").map_err(|error| opening(path, error.into()))?;
        return match found {
            VERSION => Ok(false),
            found => Err(OpenError::Version { path: path.into(), found, known: VERSION }),
        };
    }
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| opening(path, error.into()))?;
    if application == 0 && tables == 0 {
        return Ok(true);
    }
    Err(foreign(format!("it is another program's SQLite file (application id {application:#x})")))
}

fn set_up(connection: &mut Connection, is_new: bool, pages: Option<u32>) -> Result<(), StoreError> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?; // an fsync before each acknowledgement
    connection.pragma_update(None, "wal_autocheckpoint", 0)?; // a thread of its own does it, see `checkpoint`
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    if let Some(pages) = pages {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    if is_new {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    } else {
        // A file from before there were topics to keep.
        connection
            .execute_batch("CREATE TABLE IF NOT EXISTS kept (topic INTEGER PRIMARY KEY) STRICT")?;
    }
    check(connection)
}

/// Checks the pages of the small tables: a row that is gone from them would not be missed otherwise. Records are
/// checked when they are read.
fn check(connection: &Connection) -> Result<(), StoreError> {
    for table in ["topics", "partitions", "kept", "commits"] {
        let found: String =
            connection.query_row(&format!("PRAGMA quick_check({table})"), [], |row| row.get(0))?;
        if found != "ok" {
            return Err(StoreError::Damaged(format!("table {table}: {found}")));
        }
    }
    Ok(())
}

/// An error of SQLite while the file is being opened.
pub(super) fn opening(path: &Path, error: StoreError) -> OpenError {
    match error {
        StoreError::Damaged(cause) => OpenError::Damaged { path: path.into(), cause },
        other => OpenError::Unusable { path: path.into(), cause: other.to_string() },
    }
}
