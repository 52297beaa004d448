//! Damage to compiled code on disk.

use std::{fs, path::PathBuf, sync::LazyLock};

use tempfile::TempDir;

use crate::{
    hostile,
    loader::{Fixture, directory},
};

/// Two handlers that are told apart by what their `init` says, and the compiled code of each as it is on disk.
struct Two {
    root: TempDir,
    handlers: [Known; 2],
}

struct Known {
    name: &'static str,
    component: Vec<u8>,
    says: String,
    file: PathBuf,
    compiled: Vec<u8>,
}

static TWO: LazyLock<Two> = LazyLock::new(|| {
    let root = directory();
    let handlers = ["one", "two"].map(known);
    Two { root, handlers }
});

fn known(name: &'static str) -> Known {
    let says = format!("I am {name}");
    // An error, whose text is at 64.
    let fields = format!(
        r#"(data (i32.const 0) "\01\00\00\00\40\00\00\00\{:02x}\00\00\00") (data (i32.const 64) "{says}")"#,
        says.len()
    );
    let component = hostile::Handler { fields: &fields, ..hostile::GOOD }.component();
    let root = directory();
    let cache = Fixture::cache(root.path());
    let fixture = Fixture::over(root);
    assert!(said(&fixture, name, &component).contains(&says));
    let entry = fs::read_dir(cache).expect("it is there").next().expect("one file");
    let file = entry.expect("it can be read").path();
    let compiled = fs::read(&file).expect("it can be read");
    Known { name, component, says, file: file.file_name().expect("it has one").into(), compiled }
}

fn said(fixture: &Fixture, name: &str, component: &[u8]) -> String {
    match fixture.load(name, component) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was loaded, and its init says that it is not to be"),
    }
}

/// With compiled code that was damaged as these bytes say, it is the file's own code that runs, and the damage is mended.
pub fn cache(bytes: &[u8]) {
    let Two { root, handlers: [one, two] } = &*TWO;
    let root = tempfile::tempdir_in(root.path()).expect("a directory can be made");
    let cache = Fixture::cache(root.path());
    fs::create_dir(&cache).expect("it is new");
    let file = cache.join(&one.file);
    fs::write(&file, damaged(&one.compiled, &two.compiled, bytes)).expect("it can be written");
    let fixture = Fixture::over(root);
    let said = said(&fixture, one.name, &one.component);
    assert!(said.contains(&one.says), "{} ran as {}: {said}", two.name, one.name);
    let now = fs::read(file).expect("it is there");
    assert!(now == one.compiled, "what is on disk now is not what the compiler gave");
}

/// Code after a list of damages: a byte that says what, and two numbers of three bytes that say where.
fn damaged(code: &[u8], other: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut code = code.to_vec();
    for damage in bytes.chunks_exact(7) {
        let number = |at: usize| {
            u32::from_le_bytes([damage[at], damage[at + 1], damage[at + 2], 0]) as usize
        };
        let (a, b) = (number(1), number(4));
        let (start, end) = (a % (code.len() + 1), a % (other.len() + 1));
        match damage[0] % 6 {
            0 => code.truncate(start),
            1 if start < code.len() => code[start] ^= (b % 256) as u8,
            // What follows is of the other.
            2 => {
                code.truncate(start);
                code.extend(&other[end..]);
            }
            // What is before is of the other.
            3 => code = [&other[..end], &code[start..]].concat(),
            4 => code.extend(&damage[4..]),
            5 if start < code.len() => {
                let with = b % code.len();
                code.swap(start, with);
            }
            _ => {}
        }
    }
    code
}
