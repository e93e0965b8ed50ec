//! Values as bytes that sort as the values do, one after another: so a key made of several values sorts by the first, then by
//! the second.

/// A value of a column.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Value {
    /// A whole number.
    Number(i64),
    /// Text; sorts by its bytes.
    Text(String),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

const NUMBER: u8 = 1;
const TEXT: u8 = 2;
/// Within text a zero is followed by this; at its end by nothing that is as large.
const ZERO: u8 = 0xff;

/// Appends a value.
pub(crate) fn write(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Number(number) => {
            bytes.push(NUMBER);
            // The sign turned round: negative numbers come first.
            bytes.extend((number.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        }
        Value::Text(text) => {
            bytes.push(TEXT);
            for byte in text.bytes() {
                bytes.push(byte);
                if byte == 0 {
                    bytes.push(ZERO);
                }
            }
            bytes.push(0);
        }
    }
}

pub(crate) fn write_all(values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    values.iter().for_each(|value| write(&mut bytes, value));
    bytes
}

/// All values that these bytes are; `None` if they are something else.
pub(crate) fn read_all(mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        match *kind {
            NUMBER => {
                let (number, rest) = rest.split_first_chunk()?;
                values.push(Value::Number((u64::from_be_bytes(*number) ^ (1 << 63)).cast_signed()));
                bytes = rest;
            }
            TEXT => {
                let (text, rest) = read_text(rest)?;
                values.push(Value::Text(text));
                bytes = rest;
            }
            _ => return None,
        }
    }
    Some(values)
}

fn read_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (mut text, mut rest) = (Vec::new(), bytes);
    loop {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        if *byte != 0 {
            text.push(*byte);
        } else if let Some((&ZERO, behind)) = rest.split_first() {
            text.push(0);
            rest = behind;
        } else {
            return Some((String::from_utf8(text).ok()?, rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever stands behind a value, its bytes sort as the values do.
    #[test]
    fn bytes_sort_as_values_do_and_read_back() {
        let texts = ["", "\0", "\0\0", "\0a", "a", "a\0", "a\0b", "aa", "b", "ü"];
        let numbers = [i64::MIN, -256, -1, 0, 1, 255, 256, i64::MAX];
        let mut values: Vec<Value> = texts.iter().map(|text| Value::from(*text)).collect();
        values.extend(numbers.map(Value::from));
        let mut pairs: Vec<[Value; 2]> = Vec::new();
        for one in &values {
            pairs.extend(values.iter().map(|other| [one.clone(), other.clone()]));
        }
        pairs.sort();
        let mut bytes: Vec<Vec<u8>> = pairs.iter().map(|pair| write_all(pair)).collect();
        for (pair, bytes) in pairs.iter().zip(&bytes) {
            assert_eq!(read_all(bytes).as_deref(), Some(&pair[..]));
        }
        let in_order = bytes.clone();
        bytes.sort();
        assert_eq!(bytes, in_order);
    }

    #[test]
    fn other_bytes_are_no_values() {
        for bytes in [&[3][..], &[NUMBER, 0], &[TEXT, b'a'], &[TEXT, 0xc3, 0]] {
            assert_eq!(read_all(bytes), None);
        }
    }
}
