//! What cargo knows about the workspace.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{Failure, capture_text, cargo};

/// What cargo resolves for one platform does not depend on the machine, and cargo need not fetch crates of other platforms.
const ONE_PLATFORM: &[&str] = &["--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];

/// The folder that the checks run on.
pub(crate) struct Workspace {
    /// Its root, where the virtual manifest is.
    pub(crate) root: PathBuf,
}

/// A crate of the workspace.
#[derive(Debug, Default)]
pub(crate) struct Member {
    /// Its name in its manifest.
    pub(crate) name: String,
    /// Its folder, relative to the root, with `/` between the parts.
    pub(crate) folder: String,
    /// The minimum Rust version that it states.
    pub(crate) rust_version: Option<String>,
    /// The names of its programs of integration tests.
    pub(crate) test_programs: Vec<String>,
    /// What it depends on inside and outside of the workspace.
    pub(crate) dependencies: Vec<Dependency>,
}

/// An arrow from one crate to another.
#[derive(Debug)]
pub(crate) struct Dependency {
    /// The crate that is depended on.
    pub(crate) name: String,
    /// Whether only tests, examples and benchmarks see it.
    pub(crate) development: bool,
}

impl Workspace {
    /// Finds the root from the folder of this crate, which cargo tells at run time: a path kept from compiling would be wrong when
    /// two clones share a target folder.
    pub(crate) fn find() -> Result<Self, Failure> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let root = manifest.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        let root = root.ok_or_else(|| Failure::new("start this program with cargo xtask"))?;
        if root.join("Cargo.toml").is_file() {
            return Ok(Self { root });
        }
        Err(Failure::new(format!("there is no Cargo.toml in {}", root.display())))
    }

    /// A path below the root.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The text of a file below the root.
    pub(crate) fn read(&self, relative: &str) -> Result<String, Failure> {
        let path = self.path(relative);
        std::fs::read_to_string(&path).map_err(Failure::io("read", &path))
    }

    /// What `cargo metadata` prints about the workspace and all that it is built from.
    pub(crate) fn resolved(&self) -> Result<Value, Failure> {
        self.metadata(ONE_PLATFORM)
    }

    fn metadata(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let mut command = cargo();
        command.current_dir(&self.root).args(["metadata", "--format-version", "1"]).args(arguments);
        serde_json::from_str(&capture_text(&mut command)?)
            .map_err(|error| Failure::new(format!("cargo metadata printed no JSON: {error}")))
    }

    /// The crates of the workspace, by name.
    pub(crate) fn members(&self) -> Result<Vec<Member>, Failure> {
        let metadata = self.metadata(&["--no-deps"])?;
        let mut members =
            list(&metadata, "packages").iter().map(|package| self.member(package)).collect::<Result<Vec<_>, _>>()?;
        members.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(members)
    }

    fn member(&self, package: &Value) -> Result<Member, Failure> {
        let manifest = Path::new(text(package, "manifest_path")?);
        let folder = manifest.parent().and_then(|folder| folder.strip_prefix(&self.root).ok());
        let folder = folder.ok_or_else(|| Failure::new(format!("{} is outside of the workspace", manifest.display())))?;
        let dependencies = list(package, "dependencies").iter().map(|dependency| {
            let development = dependency.get("kind").and_then(Value::as_str) == Some("dev");
            Ok(Dependency { name: text(dependency, "name")?.to_owned(), development })
        });
        let tests = list(package, "targets").iter().filter(|target| list(target, "kind").iter().any(|kind| kind == "test"));
        Ok(Member {
            test_programs: tests.map(|target| text(target, "name").map(str::to_owned)).collect::<Result<_, _>>()?,
            name: text(package, "name")?.to_owned(),
            folder: folder.to_string_lossy().replace('\\', "/"),
            rust_version: package.get("rust_version").and_then(Value::as_str).map(str::to_owned),
            dependencies: dependencies.collect::<Result<_, Failure>>()?,
        })
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> Result<PathBuf, Failure> {
        let metadata = self.metadata(&["--no-deps"])?;
        Ok(PathBuf::from(text(&metadata, "target_directory")?))
    }
}

/// A field of cargo's JSON that is a text.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str, Failure> {
    let found = value.get(field).and_then(Value::as_str);
    found.ok_or_else(|| Failure::new(format!("cargo metadata has no text {field:?}")))
}

/// A field of cargo's JSON that is a list; empty if it is missing.
pub(crate) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether a path ends with this extension, given without its dot.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}
