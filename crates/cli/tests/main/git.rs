//! Importing git histories, compared with git's own trees at every commit.

use std::ffi::OsStr;
use std::path::Path;

use crate::program::{Folder, Ran};
use crate::repository::{Repository, eventful};

fn import(folder: &Folder, repository: &Path, options: &[&str]) -> Ran {
    let words = [OsStr::new("--git"), repository.as_os_str()].into_iter().chain(options.iter().map(OsStr::new));
    folder.run("import", words)
}

fn row(key: &[u8], value: &[u8]) -> Vec<u8> {
    [key, b"\t", value, b"\n"].concat()
}

/// Compares every version with the tree of its commit.
#[track_caller]
fn check_states(folder: &Folder, repository: &Repository, commits: &[String]) {
    for (index, commit) in commits.iter().enumerate() {
        let expected: Vec<u8> = repository.tree(commit).iter().flat_map(|(_, path, id)| row(path, id)).collect();
        let found = folder.say(&format!("scan --format tsv --at {}", index + 1)).bytes;
        assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string(), "version {}", index + 1);
    }
}

#[test]
fn every_version_is_the_tree_of_its_commit() {
    let folder = Folder::new();
    let repository = eventful(folder.path("repository"));
    let commits = repository.commits();
    let summary = import(&folder, &repository.0, &[]).ok();
    assert!(summary.starts_with(&format!("imported {0} commits, 1 to {0}, ", commits.len())), "{summary}");
    check_states(&folder, &repository, &commits);
    assert_eq!(
        import(&folder, &repository.0, &[]).ok(),
        format!("nothing to import; the store is at version {}\n", commits.len())
    );
}

#[test]
fn contents_are_the_bytes_of_blobs_without_submodules() {
    let folder = Folder::new();
    let repository = eventful(folder.path("repository"));
    import(&folder, &repository.0, &["--contents"]).ok();
    for (index, commit) in repository.commits().iter().enumerate() {
        let blobs = repository.tree(commit).into_iter().filter(|(mode, ..)| mode != "160000");
        let content = |id: &[u8]| repository.git(&["cat-file", "blob", std::str::from_utf8(id).unwrap()]);
        let expected: Vec<u8> = blobs.flat_map(|(_, path, id)| row(&path, &content(&id))).collect();
        let found = folder.say(&format!("scan --format tsv --at {}", index + 1)).bytes;
        assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string(), "version {}", index + 1);
    }
    assert!(import(&folder, &repository.0, &["--contents"]).ok().starts_with("nothing to import"));
    import(&folder, &repository.0, &[]).refused(1, "does not hold this history");
}

#[test]
fn submodules_are_imported_whatever_is_configured_to_ignore_them() {
    let folder = Folder::new();
    let repository = eventful(folder.path("repository"));
    repository.edit(".gitmodules", Some(b"[submodule \"m\"]\n\tpath = module\n\turl = ./m\n\tignore = all\n"));
    repository.git(&["add", ".gitmodules"]);
    repository.git(&["commit", "--quiet", "--message", "ignore"]);
    let id = "6d1e2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b";
    repository.git(&["update-index", "--cacheinfo", &format!("160000,{id},module")]);
    repository.git(&["commit", "--quiet", "--message", "another commit of the submodule"]);
    import(&folder, &repository.0, &[]).ok();
    check_states(&folder, &repository, &repository.commits());
}

#[test]
fn a_change_of_mode_or_nothing_makes_a_version_without_writes() {
    let folder = Folder::new();
    let repository = eventful(folder.path("repository"));
    import(&folder, &repository.0, &[]).ok();
    assert_eq!(folder.say("diff 1 2").ok(), "");
    let history = folder.say("history renamed --format tsv").ok();
    assert_eq!(history.lines().count(), 1, "{history}");
}

#[test]
fn an_import_goes_on_after_new_commits() {
    let folder = Folder::new();
    let repository = eventful(folder.path("repository"));
    let commits = repository.commits();
    import(&folder, &repository.0, &["--rev", &commits[2]]).ok();
    import(&folder, &repository.0, &[]).ok();
    repository.edit("later", Some(b"later"));
    repository.git(&["add", "later"]);
    repository.git(&["commit", "--quiet", "--message", "later"]);
    let summary = import(&folder, &repository.0, &[]).ok();
    assert_eq!(
        summary,
        format!("imported 1 commits, {0} to {0}, with 1 changes; the store is at version {0}\n", commits.len() + 1)
    );
    check_states(&folder, &repository, &repository.commits());
}

#[test]
fn a_shallow_clone_and_a_bare_one_are_imported_as_git_has_them() {
    let folder = Folder::new();
    let origin = eventful(folder.path("repository"));
    let url = format!("file://{}", origin.0.display());
    for (name, options) in [("shallow", ["--depth", "3"]), ("bare", ["--bare", "--no-tags"])] {
        let path = folder.path(name);
        let words = [&["clone", "--quiet"][..], &options[..], &[url.as_str(), path.to_str().unwrap()][..]].concat();
        origin.git(&words);
        let clone = Repository(path);
        let own = Folder::new();
        import(&own, &clone.0, &[]).ok();
        let commits = clone.commits();
        assert!(name != "shallow" || commits.len() == 3);
        check_states(&own, &clone, &commits);
    }
}

#[test]
fn variables_of_a_surrounding_git_do_not_lead_astray() {
    let folder = Folder::new();
    let repository = eventful(folder.path("repository"));
    let mut command = folder.command("import", [OsStr::new("--git"), repository.0.as_os_str()]);
    let ran: Ran = command.env("GIT_DIR", "nowhere").env("GIT_WORK_TREE", "nowhere").output().unwrap().into();
    ran.ok();
    check_states(&folder, &repository, &repository.commits());
}

#[test]
fn a_path_that_is_no_repository_is_refused_and_no_store_is_made() {
    let folder = Folder::new();
    let repository = eventful(folder.path("repository"));
    std::fs::create_dir(folder.path("plain")).unwrap();
    import(&folder, &folder.path("plain"), &[]).refused(1, "is no git repository");
    import(&folder, &folder.path("missing"), &[]).refused(1, "is no git repository");
    import(&folder, &repository.0.join("becomes"), &[])
        .refused(1, "is no git repository, but the directory `becomes/` inside of one");
    import(&folder, &repository.0, &["--rev", "nowhere"]).refused(1, "has no commit `nowhere`");
    import(&folder, &repository.0, &["--rev=--all"]).refused(1, "has no commit `--all`");
    let empty = Repository::new(folder.path("empty"));
    import(&folder, &empty.0, &[]).refused(1, "has no commit `HEAD`");
    assert!(!folder.store().exists());
}

#[test]
fn another_repository_is_refused() {
    let folder = Folder::new();
    let repository = eventful(folder.path("repository"));
    import(&folder, &repository.0, &[]).ok();
    let other = Repository::new(folder.path("other"));
    for commit in 0..20 {
        other.edit("file", Some(format!("{commit}").as_bytes()));
        other.commit("other");
    }
    import(&folder, &other.0, &[]).refused(1, "does not hold this history");
    import(&folder, &repository.0, &["--rev", "HEAD~1"]).refused(1, "the repository has only");
}
