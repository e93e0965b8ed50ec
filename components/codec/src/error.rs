//! Why bytes could not be read.

use std::fmt;

/// What is wrong with an input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The input ends inside a value.
    Truncated {
        /// How many bytes the value still needs.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// A varint is longer than ten bytes or its value does not fit the field.
    VarintOverflow,
    /// A byte that must be 0 or 1 is neither.
    InvalidBool(u8),
    /// Text is not UTF-8.
    InvalidUtf8,
    /// An enum's tag is none that this version knows.
    UnknownVariant {
        /// The enum.
        of: &'static str,
        /// The tag found.
        tag: u64,
    },
    /// A struct ends before a field that every version writes.
    MissingField,
    /// A value breaks a rule of its type.
    Invalid(&'static str),
    /// Bytes follow the value.
    TrailingBytes {
        /// How many.
        left: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, left } => write!(f, "truncated: {needed} bytes needed, {left} left"),
            Self::VarintOverflow => write!(f, "varint out of range"),
            Self::InvalidBool(byte) => write!(f, "byte {byte:#04x} is not a bool"),
            Self::InvalidUtf8 => write!(f, "text is not UTF-8"),
            Self::UnknownVariant { of, tag } => write!(f, "tag {tag} of {of} is unknown to this version"),
            Self::MissingField => write!(f, "a field is missing that every version writes"),
            Self::Invalid(what) => write!(f, "invalid {what}"),
            Self::TrailingBytes { left } => write!(f, "{left} bytes follow the value"),
        }
    }
}

impl std::error::Error for DecodeError {}
