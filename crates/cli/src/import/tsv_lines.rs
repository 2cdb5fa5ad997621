//! Lines of the change format: `commit<TAB>put|del<TAB>key<TAB>value<LF>`, the value empty for del.
//!
//! Keys and values are raw bytes without tab and line feed. Anything else is refused with what is wrong: a line that was guessed at
//! would be wrong data for ever.

use std::io::{self, BufRead, Read};

use thermocline::{Version, limits};

use super::KeyWrite;

/// The longest line: the longest key and value, and room for the commit number, the operation and the tabs.
const LINE_SIZE_BYTES_MAX: usize = limits::KEY_SIZE_BYTES_MAX + limits::VALUE_SIZE_BYTES_MAX + 64;

/// A line that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) version: Version,
    pub(super) write: KeyWrite,
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The commit that the line belongs to, as far as it says so.
    pub(super) version: Option<Version>,
    pub(super) what: String,
}

/// Why there is no next line.
#[derive(Debug)]
pub(super) enum LineError {
    Malformed(Malformed),
    Read(io::Error),
}

/// Reads lines one at a time, and counts lines and bytes.
pub(super) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// The number of the line that was read last, from 1.
    pub(super) number: u64,
    /// How many bytes were read.
    pub(super) offset: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), number: 0, offset: 0 }
    }

    /// The next line; `None` at the end.
    pub(super) fn next_line(&mut self) -> Result<Option<Line>, LineError> {
        self.buffer.clear();
        let most = LINE_SIZE_BYTES_MAX as u64 + 1;
        let read = self.reader.by_ref().take(most).read_until(b'\n', &mut self.buffer).map_err(LineError::Read)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.offset += read as u64;
        parse(&self.buffer).map(Some).map_err(LineError::Malformed)
    }
}

/// Parses a line with its line feed.
fn parse(bytes: &[u8]) -> Result<Line, Malformed> {
    let (text, is_whole) = match bytes.strip_suffix(b"\n") {
        Some(text) => (text, true),
        None => (bytes, false),
    };
    let fields: Vec<&[u8]> = text.splitn(5, |byte| *byte == b'\t').collect();
    // A number that no tab ends may have been cut short.
    let number = if fields.len() > 1 { parse_version(fields[0]) } else { None };
    let refuse = |what: String| Err(Malformed { version: number, what });
    if !is_whole {
        return refuse(if bytes.len() > LINE_SIZE_BYTES_MAX {
            format!("longer than {LINE_SIZE_BYTES_MAX} bytes, the most that key and value can take")
        } else {
            "the last line has no line feed at its end, so the file may have been cut short".into()
        });
    }
    let [commit, operation, key, value] = fields[..] else {
        let found = if fields.len() > 4 { "more".into() } else { fields.len().to_string() };
        return refuse(format!("expected 4 fields between tabs (commit, put or del, key, value), found {found}"));
    };
    let Some(version) = number else {
        return refuse(format!("`{}` is not a commit number from 1 to {}", commit.escape_ascii(), Version::COMMIT_MAX));
    };
    let value = match operation {
        b"put" => Some(value.to_vec()),
        b"del" if value.is_empty() => None,
        b"del" => return refuse("a del has a value; its last field must be empty".into()),
        other => return refuse(format!("`{}` is neither put nor del", other.escape_ascii())),
    };
    Ok(Line { version, write: KeyWrite { key: key.to_vec(), value } })
}

fn parse_version(digits: &[u8]) -> Option<Version> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let version = Version(std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?);
    (Version::ZERO < version && version <= Version::COMMIT_MAX).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(line: &[u8], version: Option<u64>, part: &str) {
        let malformed = parse(line).unwrap_err();
        assert_eq!(malformed.version, version.map(Version), "{}", line.escape_ascii());
        assert!(malformed.what.contains(part), "{} gave: {}", line.escape_ascii(), malformed.what);
    }

    #[test]
    fn whole_lines_are_read_as_raw_bytes() {
        let line = parse(b"12\tput\ta \xff\"b\t\xfe\r\n").unwrap();
        assert_eq!(line.version, Version(12));
        assert_eq!(line.write, KeyWrite { key: b"a \xff\"b".to_vec(), value: Some(b"\xfe\r".to_vec()) });
        assert_eq!(parse(b"1\tdel\tk\t\n").unwrap().write.value, None);
        assert_eq!(parse(b"1\tput\tk\t\n").unwrap().write.value, Some(Vec::new()));
    }

    #[test]
    fn every_malformed_line_is_refused_with_what_is_wrong() {
        check_refused(b"\n", None, "found 1");
        check_refused(b"garbage\n", None, "found 1");
        check_refused(b"7\tput\tk\n", Some(7), "found 3");
        check_refused(b"7\tput\tk\tv\tw\n", Some(7), "found more");
        check_refused(b"7\tset\tk\tv\n", Some(7), "`set` is neither");
        check_refused(b"7\tdel\tk\tv\n", Some(7), "a del has a value");
        check_refused(b"x7\tput\tk\tv\n", None, "`x7` is not a commit number");
        check_refused(b"+7\tput\tk\tv\n", None, "`+7` is not");
        check_refused(b"0\tput\tk\tv\n", None, "`0` is not");
        check_refused(b"18446744073709551615\tput\tk\tv\n", None, "is not a commit number");
        check_refused(b"99999999999999999999\tput\tk\tv\n", None, "is not a commit number");
        check_refused(b"7\tput\tk\tv", Some(7), "cut short");
        check_refused(b"7", None, "cut short");
    }

    #[test]
    fn lines_and_bytes_are_counted() {
        let mut lines = Lines::new(&b"1\tput\tk\tv\n2\tdel\tk\t\n"[..]);
        assert!(lines.next_line().unwrap().is_some());
        assert_eq!((lines.number, lines.offset), (1, 10));
        assert!(lines.next_line().unwrap().is_some());
        assert!(lines.next_line().unwrap().is_none());
        assert_eq!((lines.number, lines.offset), (2, 19));
    }
}
