//! Keys as people write them, and bytes as people read them.
//!
//! A key on the command line is text with escapes: `\xNN` is one byte, `\\` a backslash, and `\n`, `\r`, `\t`, `\0` are what
//! they are elsewhere. `hex:` and an even number of hexadecimal digits is a key in hexadecimal; a key that itself begins with `hex:`
//! is written `\x68ex:…`. What is printed can be typed again.

use bytes::Bytes;
use std::fmt::Write as _;
use types::Key;

/// What stands before a key in hexadecimal.
const HEX: &str = "hex:";

/// The key that this text stands for; for clap.
pub(crate) fn parse_key(text: &str) -> Result<Key, String> {
    if let Some(digits) = text.strip_prefix(HEX) {
        return from_hex(digits);
    }
    let mut key = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            key.push(byte);
            continue;
        }
        let escaped = match rest.next() {
            Some(b'\\') => b'\\',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'x') => match (rest.next().and_then(digit), rest.next().and_then(digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err("`\\x` takes two hexadecimal digits, as in `\\x0f`".to_owned()),
            },
            Some(_) => {
                return Err("unknown escape: there are \\xNN, \\\\, \\n, \\r, \\t and \\0; \
                     write a backslash as \\\\"
                    .to_owned());
            }
            None => return Err("a single backslash at the end: write it as \\\\".to_owned()),
        };
        key.push(escaped);
    }
    Ok(key.into())
}

/// Bytes from pairs of hexadecimal digits; for clap.
pub(crate) fn from_hex(digits: &str) -> Result<Bytes, String> {
    let wrong = || "hexadecimal digits come in pairs, as in `hex:00ff`".to_owned();
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.as_bytes().chunks(2) {
        let &[high, low] = pair else { return Err(wrong()) };
        let (high, low) = digit(high).zip(digit(low)).ok_or_else(wrong)?;
        bytes.push(high << 4 | low);
    }
    Ok(bytes.into())
}

fn digit(byte: u8) -> Option<u8> {
    // A hexadecimal digit is below 16.
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Bytes as hexadecimal digits, in lower case.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(out, "{byte:02x}").expect("writing to a String does not fail");
    }
    out
}

/// A key as [`parse_key`] takes it.
pub(crate) fn show_key(key: &[u8]) -> String {
    let shown = types::escape_key(key);
    // The one kind of key whose plain form would be read as something else.
    if shown.starts_with(HEX) { shown.replacen('h', "\\x68", 1) } else { shown }
}

/// A size for people: `17 B`, `1.2 MiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64;
    let mut unit = "";
    for next in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    format!("{size:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_text_hexadecimal_or_escaped() {
        for (text, key) in [
            ("plain", &b"plain"[..]),
            ("", b""),
            ("hex:", b""),
            ("hex:00fF", b"\x00\xff"),
            ("a\\x00b", b"a\x00b"),
            ("\\\\x00", b"\\x00"),
            ("\\n\\r\\t\\0", b"\n\r\t\0"),
            ("\\x68ex:00", b"hex:00"),
            ("é", "é".as_bytes()),
        ] {
            assert_eq!(parse_key(text).as_deref(), Ok(key), "{text}");
        }
        for text in ["hex:0", "hex:0g", "\\", "\\q", "\\x", "\\x1", "\\xg0", "hex:é"] {
            assert!(parse_key(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_can_be_typed_again() {
        let every: Vec<u8> = (0..=255).collect();
        for key in [&every[..], b"hex:00", b"hexagon", b"\\x00", b"", "é".as_bytes()] {
            assert_eq!(parse_key(&show_key(key)).as_deref(), Ok(key));
            assert_eq!(from_hex(&to_hex(key)).as_deref(), Ok(key));
        }
    }

    #[test]
    fn sizes_keep_to_four_figures() {
        assert_eq!(show_bytes(0), "0 B");
        assert_eq!(show_bytes(1023), "1023 B");
        assert_eq!(show_bytes(1024), "1.0 KiB");
        assert_eq!(show_bytes(5 << 20), "5.0 MiB");
        assert_eq!(show_bytes(3 << 40), "3.0 TiB");
    }
}
