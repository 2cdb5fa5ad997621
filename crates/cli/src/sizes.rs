//! Numbers of bytes, as they are written on the command line and shown to people.

use std::fmt;

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// Reads a number of bytes: digits, and perhaps one of B, KiB, MiB, GiB and TiB in any case.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits_end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let power =
        if unit.is_empty() { Some(0) } else { UNITS.iter().position(|name| name.eq_ignore_ascii_case(unit.trim_start())) };
    let number = digits.parse::<u64>().ok();
    power
        .and_then(|power| number?.checked_mul(1 << (10 * power)))
        .ok_or_else(|| "not a number of bytes such as 65536, 64KiB, 512MiB or 2GiB".to_owned())
}

/// As [`parse`], or `all` for as many as there are.
pub(crate) fn parse_or_all(text: &str) -> Result<u64, String> {
    if text == "all" { Ok(u64::MAX) } else { parse(text).map_err(|error| format!("neither `all` nor a size: {error}")) }
}

/// As [`parse`], or hexadecimal digits after `0x`: a place in a file, as errors and dumps name it.
pub(crate) fn parse_offset(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).map_err(|error| error.to_string())
        }
        Some(_) => Err("not hexadecimal digits after 0x".to_owned()),
        None => parse(text),
    }
}

/// A number of bytes in the largest unit that leaves a whole part, with one digit behind the point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounding must not give 1024.0 of a unit.
        let units = UNITS.iter().enumerate().skip(1);
        let fitting = units.take_while(|(power, _)| self.0 >= (1 << (10 * power)) - (1 << (10 * power)) / 20_480);
        match fitting.last() {
            None => write!(f, "{} B", self.0),
            Some((power, unit)) => {
                let tenths = (u128::from(self.0) * 10 + (1 << (10 * power)) / 2) >> (10 * power);
                write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        let read = [
            ("0", 0),
            ("65536", 65_536),
            ("7b", 7),
            ("64KiB", 64 << 10),
            ("64 kib", 64 << 10),
            ("512MiB", 512 << 20),
            ("2GiB", 2 << 30),
            ("1TiB", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in read {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        assert_eq!((parse_or_all("all"), parse_or_all("1KiB")), (Ok(u64::MAX), Ok(1024)));
        assert_eq!((parse_offset("0x1F"), parse_offset("31")), (Ok(31), Ok(31)));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "KiB", "-1", "1.5MiB", "64KB", "64k", "1 2", "all", "0x10", "18446744073709551616", "16777216TiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_or_all("some").is_err());
        for text in ["0x", "0x+1", "0xg", "0x10000000000000000"] {
            assert!(parse_offset(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_unit_that_fits() {
        let shown = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (64 << 10, "64.0 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            ((1 << 20) - (1 << 10), "1023.0 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ];
        for (bytes, text) in shown {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
