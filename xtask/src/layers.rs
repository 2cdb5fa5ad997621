//! `cargo xtask layers`: the arrows between the workspace's crates, as docs/ARCHITECTURE.md draws them.

use std::collections::BTreeSet;

use crate::process::Failure;
use crate::workspace::{Member, Workspace};

/// What one crate may depend on inside of the workspace.
struct Layer {
    name: &'static str,
    /// Crates that it is built on.
    uses: &'static [&'static str],
    /// Crates that its tests, examples and benchmarks may use besides.
    tests_use: &'static [&'static str],
}

const TIER: &str = "thermocline-tier";
const FORMAT: &str = "thermocline-format";
const IO: &str = "thermocline-io";
const MIGRATION: &str = "thermocline-migration";
const DROP: &str = "thermocline-drop";
const WAL: &str = "thermocline-wal";
const HOT: &str = "thermocline-hot";
const WARM: &str = "thermocline-warm";
const STORE: &str = "thermocline-store";
const FACADE: &str = "thermocline";
const CONFORMANCE: &str = "thermocline-conformance";

/// From the bottom to the top: a crate may only use crates above it in this list, which rules out cycles.
const LAYERS: &[Layer] = &[
    Layer { name: TIER, uses: &[], tests_use: &[] },
    Layer { name: FORMAT, uses: &[], tests_use: &[] },
    Layer { name: IO, uses: &[], tests_use: &[] },
    Layer { name: MIGRATION, uses: &[TIER, FORMAT], tests_use: &[] },
    Layer { name: DROP, uses: &[TIER, FORMAT], tests_use: &[] },
    Layer { name: WAL, uses: &[TIER, FORMAT, IO], tests_use: &[] },
    Layer { name: HOT, uses: &[TIER, IO], tests_use: &[CONFORMANCE] },
    Layer { name: WARM, uses: &[TIER, FORMAT, IO, MIGRATION], tests_use: &[HOT, CONFORMANCE] },
    Layer { name: STORE, uses: &[TIER, FORMAT, IO, MIGRATION, WAL, DROP], tests_use: &[HOT, WARM, FACADE, CONFORMANCE] },
    Layer { name: FACADE, uses: &[TIER, IO, MIGRATION, WAL, HOT, WARM, STORE], tests_use: &[CONFORMANCE] },
    Layer { name: CONFORMANCE, uses: &[TIER, IO, WAL, STORE, FACADE], tests_use: &[HOT, WARM] },
    Layer { name: "thermocline-cli", uses: &[FACADE], tests_use: &[] },
    Layer { name: "thermocline-yardstick", uses: &[FACADE], tests_use: &[] },
    Layer {
        name: "thermocline-benches",
        uses: &[TIER, FORMAT, IO, MIGRATION, WAL, HOT, WARM, STORE, FACADE, "thermocline-yardstick"],
        tests_use: &[],
    },
    Layer { name: "xtask", uses: &[], tests_use: &[] },
];

/// Compares the manifests with the table above.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let members = workspace.members()?;
    let wrong = check(&members, LAYERS);
    if !wrong.is_empty() {
        return Err(Failure::new(format!("layers: {}", wrong.join("\nlayers: "))));
    }
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let arrows =
        members.iter().flat_map(|member| &member.dependencies).filter(|arrow| names.contains(arrow.name.as_str())).count();
    println!("layers: {} crates, {arrows} dependencies among them, all allowed", members.len());
    Ok(())
}

fn check(members: &[Member], layers: &[Layer]) -> Vec<String> {
    let mut wrong = Vec::new();
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    for member in members {
        let Some(layer) = layers.iter().find(|layer| layer.name == member.name) else {
            wrong.push(format!("{} has no layer: give it one in xtask/src/layers.rs and in docs/ARCHITECTURE.md", member.name));
            continue;
        };
        for dependency in member.dependencies.iter().filter(|dependency| names.contains(dependency.name.as_str())) {
            let (to, development) = (dependency.name.as_str(), dependency.development);
            if !(layer.uses.contains(&to) || development && layer.tests_use.contains(&to)) {
                let kind = if development { " in its tests" } else { "" };
                wrong.push(format!("{} must not depend on {to}{kind}", member.name));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::{LAYERS, check};
    use crate::workspace::{Dependency, Member};

    fn member(name: &str, uses: &[(&str, bool)]) -> Member {
        let dependencies =
            uses.iter().map(|&(name, development)| Dependency { name: name.to_owned(), development }).collect::<Vec<_>>();
        Member { name: name.to_owned(), dependencies, ..Member::default() }
    }

    #[test]
    fn table_has_no_arrow_that_points_up() {
        for (index, layer) in LAYERS.iter().enumerate() {
            for used in layer.uses {
                assert!(LAYERS[..index].iter().any(|below| below.name == *used), "{} uses {used}", layer.name);
            }
        }
    }

    #[test]
    fn arrows_down_pass_and_arrows_up_or_sideways_do_not() {
        let tier = || member("thermocline-tier", &[("bytes", false)]);
        let wal = || member("thermocline-wal", &[("thermocline-tier", false)]);
        assert_eq!(check(&[tier(), wal()], LAYERS), Vec::<String>::new());

        let up = member("thermocline-tier", &[("thermocline-wal", false)]);
        assert_eq!(check(&[up, wal()], LAYERS), ["thermocline-tier must not depend on thermocline-wal"]);

        let sideways = member("thermocline-hot", &[("thermocline-wal", true)]);
        assert_eq!(
            check(&[tier(), wal(), sideways], LAYERS),
            ["thermocline-hot must not depend on thermocline-wal in its tests"]
        );
    }

    #[test]
    fn arrow_of_tests_is_not_an_arrow_of_the_crate() {
        let conformance = || member("thermocline-conformance", &[]);
        let tests = member("thermocline-hot", &[("thermocline-conformance", true)]);
        assert_eq!(check(&[tests, conformance()], LAYERS), Vec::<String>::new());
        let crate_itself = member("thermocline-hot", &[("thermocline-conformance", false)]);
        assert_eq!(check(&[crate_itself, conformance()], LAYERS), ["thermocline-hot must not depend on thermocline-conformance"]);
    }

    #[test]
    fn unknown_crate_is_refused() {
        assert_eq!(check(&[member("thermocline-misc", &[])], LAYERS).len(), 1);
    }
}
