//! Bytes on the output: raw, escaped for people, and as JSON.

use std::fmt;
use std::io::Write;

use serde_json::{Value, json};

use crate::arguments::Format;
use crate::failure::Failure;

/// Writes formatted text; a failure is one of the output.
macro_rules! put {
    ($out:expr, $($what:tt)*) => {
        writeln!($out, $($what)*).map_err($crate::failure::Failure::Output)
    };
}
pub(crate) use put;

/// Bytes for people: UTF-8 as it is, control characters and everything else escaped, so that a line stays a line and shows all that it
/// holds.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() || is_invisible(character) || character == '\\' {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    f.write_char(character)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Whether a character shows nothing and may turn around or hide what stands beside it.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(character, '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

/// Bytes as JSON: a string where they are UTF-8, else an object with their hexadecimal digits.
pub(crate) fn json_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": hex(bytes) }),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// As [`json_bytes`]; null for none.
pub(crate) fn json_value(value: Option<&[u8]>) -> Value {
    value.map_or(Value::Null, json_bytes)
}

/// Writes one JSON object on a line of its own.
pub(crate) fn put_json(out: &mut dyn Write, value: &Value) -> Result<(), Failure> {
    put!(out, "{value}")
}

/// Writes raw fields with tabs between them and a line feed after them.
pub(crate) fn put_fields(out: &mut dyn Write, fields: &[&[u8]]) -> Result<(), Failure> {
    for (index, field) in fields.iter().enumerate() {
        let separator: &[u8] = if index == 0 { b"" } else { b"\t" };
        out.write_all(separator).and_then(|()| out.write_all(field)).map_err(Failure::Output)?;
    }
    out.write_all(b"\n").map_err(Failure::Output)
}

/// One JSON object, or a line for each value with the names on the way to it.
pub(crate) fn put_values(out: &mut dyn Write, format: Format, values: &Value) -> Result<(), Failure> {
    if format == Format::Json {
        return put_json(out, values);
    }
    let mut lines = Vec::new();
    flatten("", values, &mut lines);
    lines.iter().try_for_each(|(name, value)| put_fields(out, &[name.as_bytes(), value.as_bytes()]))
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                flatten(&name, value, lines);
            }
        }
        Value::String(text) => lines.push((name.to_owned(), text.clone())),
        Value::Null => lines.push((name.to_owned(), String::new())),
        other => lines.push((name.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_bytes_stay_on_one_line_and_keep_readable_text() {
        assert_eq!(Shown("a\u{e4}b".as_bytes()).to_string(), "a\u{e4}b");
        assert_eq!(Shown(b"a\tb\nc\\d\xff\0").to_string(), "a\\tb\\nc\\\\d\\xff\\u{0}");
        assert_eq!(Shown("a\u{202e}b\u{feff}".as_bytes()).to_string(), "a\\u{202e}b\\u{feff}");
    }

    #[test]
    fn json_tells_text_from_other_bytes() {
        assert_eq!(json_bytes(b"a\"b").to_string(), r#""a\"b""#);
        assert_eq!(json_bytes(b"\xff\x00").to_string(), r#"{"hex":"ff00"}"#);
        assert_eq!(json_value(None).to_string(), "null");
    }
}
