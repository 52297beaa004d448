//! A compose file as `docker compose` understands it, and the image's Dockerfile as far as it says how Keyway is run.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde::Deserialize;

/// A compose file with one choice of profiles.
#[derive(Debug, Deserialize)]
pub(crate) struct Project {
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) networks: BTreeMap<String, Network>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Service {
    pub(crate) image: String,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) depends_on: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub(crate) networks: BTreeMap<String, Option<Attachment>>,
    #[serde(default)]
    pub(crate) ports: Vec<Port>,
    pub(crate) build: Option<Build>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Attachment {
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Port {
    pub(crate) target: u16,
    pub(crate) published: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Build {
    pub(crate) context: PathBuf,
    pub(crate) dockerfile: PathBuf,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Network {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) external: bool,
}

impl Project {
    /// Reads a file of `docker-compose/`, or says why this machine cannot.
    pub(crate) fn read(file: &str, profiles: &[&str]) -> Result<Self, String> {
        let output = Command::new(verifier()?)
            .arg(folder().join(file))
            .args(profiles)
            .env_remove("COMPOSE_PROFILES")
            .output()
            .expect("what was just built can be run");
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout).expect("the library prints a project"))
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.services.keys().map(String::as_str).collect()
    }
}

impl Service {
    /// The names under which others on the network reach it.
    pub(crate) fn aliases(&self) -> Vec<&str> {
        self.networks
            .values()
            .flatten()
            .flat_map(|network| &network.aliases)
            .map(String::as_str)
            .collect()
    }

    pub(crate) fn published(&self) -> Vec<(u16, &str)> {
        self.ports.iter().map(|port| (port.target, port.published.as_str())).collect()
    }
}

fn folder() -> PathBuf {
    repository().join("docker-compose")
}

/// Where the repository is.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("host/ is in it").to_owned()
}

/// The program of `docker-compose/verify`, built once.
fn verifier() -> Result<&'static Path, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compose-verify");
        let output = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(folder().join("verify"))
            .env("GOTOOLCHAIN", "local")
            .output()
            .map_err(|error| {
                format!("the compose files are parsed by a Go program, and there is no go: {error}")
            })?;
        if output.status.success() {
            Ok(program)
        } else {
            let stderr = String::from_utf8_lossy(&output.stderr);
            Err(format!("docker-compose/verify does not build here: {}", stderr.trim()))
        }
    });
    built.as_deref().map_err(Clone::clone)
}

/// What the image says of how it is run.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) health_check: Vec<String>,
}

impl Image {
    /// Reads the instructions of the Dockerfile's last stage.
    pub(crate) fn read(dockerfile: &Path) -> Self {
        let text = fs::read_to_string(dockerfile).expect("the Dockerfile is there");
        let mut image = Self {
            entrypoint: Vec::new(),
            command: Vec::new(),
            environment: BTreeMap::new(),
            health_check: Vec::new(),
        };
        for line in text.replace("\\\n", " ").lines() {
            let Some((instruction, rest)) = line.split_once(' ') else { continue };
            match instruction {
                "ENTRYPOINT" => image.entrypoint = exec_form(rest),
                "CMD" => image.command = exec_form(rest),
                "ENV" => image.environment.extend(rest.split_whitespace().map(|pair| {
                    let (name, value) = pair.split_once('=').expect("ENV NAME=VALUE");
                    (name.to_owned(), value.to_owned())
                })),
                "HEALTHCHECK" => {
                    let (_, command) = rest.split_once("CMD ").expect("HEALTHCHECK CMD");
                    image.health_check = exec_form(command);
                }
                _ => {}
            }
        }
        image
    }
}

fn exec_form(json: &str) -> Vec<String> {
    serde_json::from_str(json.trim()).expect("the exec form is a JSON array of strings")
}
