//! Every message of the protocol: stays readable, byte for byte; is covered in all its variants; and harms nobody when it
//! is damaged.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod golden;
mod hostile;
mod samples;
mod trace;
mod variants;
mod versions;
