//! The states that a store must show: how they are written down, and how they are taken from a scan.

use sha2::{Digest, Sha256};

/// The state of a store at one version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    /// How many paths there are.
    pub(super) count: u64,
    /// SHA-256, in lower-case hex, of all lines `path TAB blob id LF`, sorted by path.
    pub(super) digest: String,
}

/// A version and its state.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) version: u64,
    pub(super) state: State,
}

/// Reads lines `version TAB count TAB SHA-256`.
pub(super) fn samples(text: &str) -> Result<Vec<Sample>, String> {
    let lines = text.lines().enumerate();
    lines
        .map(|(index, line)| sample(line).ok_or_else(|| format!("line {}: not a version, a count and a digest", index + 1)))
        .collect()
}

fn sample(line: &str) -> Option<Sample> {
    let mut fields = line.split('\t');
    let (version, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let digest = fields.next().filter(|digest| digest.len() == 64)?.to_owned();
    fields.next().is_none().then_some(Sample { version, state: State { count, digest } })
}

/// The state that a scan printed: its lines are the lines of the digest already.
pub(super) fn state_of(scan: &[u8]) -> State {
    let count = scan.iter().map(|&byte| u64::from(byte == b'\n')).sum();
    let digest = format!("{:x}", Sha256::digest(scan));
    State { count, digest }
}

#[cfg(test)]
mod tests {
    use super::{Sample, State, samples, state_of};

    #[test]
    fn state_of_a_scan_is_its_lines_and_their_digest() {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned();
        assert_eq!(state_of(b""), State { count: 0, digest });
        let digest = "6d2d1bd0abaed39e891321f7fb19d3f21108674b420432e927ae2fb4d0b7fb73".to_owned();
        assert_eq!(state_of(b"a\t1\nb\t2\n"), State { count: 2, digest });
        assert_ne!(state_of(b"a\t1\nb\t2\n"), state_of(b"b\t2\na\t1\n"));
    }

    #[test]
    fn samples_are_read_or_refused_by_line() {
        let digest = "ab".repeat(32);
        let state = State { count: 2, digest: digest.clone() };
        assert_eq!(samples(&format!("7\t2\t{digest}\n")), Ok(vec![Sample { version: 7, state }]));
        for wrong in ["", "7\t2", "7\t2\tab", &format!("x\t2\t{digest}"), &format!("7\t2\t{digest}\t1")] {
            let text = format!("1\t1\t{digest}\n{wrong}\n");
            assert_eq!(samples(&text), Err("line 2: not a version, a count and a digest".to_owned()), "{wrong}");
        }
    }
}
