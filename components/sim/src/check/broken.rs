//! What a checker says when a rule does not hold.

use std::fmt;

/// An invariant that does not hold, with the facts that contradict each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub facts: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.invariant, self.facts)
    }
}

impl std::error::Error for Broken {}

pub(crate) fn require(
    holds: bool,
    invariant: &'static str,
    facts: impl FnOnce() -> String,
) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { invariant, facts: facts() }) }
}
