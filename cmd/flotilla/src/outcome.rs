//! How the process ends: one number for each thing the caller may do next.

use client::Error;
use server::ServerError;
use std::fmt;

/// What `--help` says of it.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  the answer is no: key not found, condition not met, contents differ, not yet balanced
  2  the command line or an argument is wrong
  3  unavailable: nothing was written; try again
  4  undetermined: nobody knows whether the write was or will be made; read back, or repeat it if that does no harm
  5  done in part: what was left out is listed
  6  anything else: files, processes, answers that make no sense";

/// How a command ended that did not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// All was done.
    Done,
    /// The answer is no.
    No,
    /// Some of it was left out, and listed.
    InPart,
    /// Another program's code.
    Code(u8),
}

impl Outcome {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::InPart => 5,
            Self::Code(code) => code,
        }
    }
}

/// The user asked for something that cannot be.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The exit code that belongs to an error: that of the first cause that has one.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Usage>() {
            return 2;
        }
        if let Some(error) = cause.downcast_ref::<Error>() {
            return client_code(error);
        }
        if matches!(
            cause.downcast_ref::<ServerError>(),
            Some(ServerError::Config(_) | ServerError::ConfigFile { .. })
        ) {
            return 2;
        }
    }
    6
}

fn client_code(error: &Error) -> u8 {
    match error {
        Error::InvalidArgument(_) => 2,
        Error::DeadlineExceeded | Error::Unavailable { .. } | Error::DiskFull => 3,
        Error::Undetermined { .. } => 4,
        Error::Incomplete(_) | Error::RangeIncomplete { .. } => 5,
        Error::NoSuchRegion { .. } => 1,
        Error::Txn(error) if error.is_worth_another() => 3,
        Error::Txn(_) => 1,
        Error::UnexpectedAnswer { .. } => 6,
    }
}

/// What to do about an error, where there is something.
pub(crate) fn advice(error: &anyhow::Error) -> Option<&'static str> {
    use client::Cause;
    let error = error.chain().find_map(|cause| cause.downcast_ref::<Error>())?;
    let advice = match error {
        Error::Unavailable { cause: Cause::PdUnreachable { .. } } => {
            "is the placement driver running there? Name its address by --pd or FLOTILLA_PD"
        }
        Error::Unavailable { cause: Cause::NotBootstrapped } => {
            "start a store: `flotilla store --pd … --data-dir …`, or a whole cluster: `flotilla playground`"
        }
        Error::Unavailable { .. } | Error::DeadlineExceeded => {
            "try again; `flotilla ctl stores` and `flotilla ctl regions` show what is up"
        }
        Error::DiskFull => "make room on the disk or delete keys, then try again",
        Error::Undetermined { .. } => {
            "read the key back, or repeat the command if doing it twice does no harm"
        }
        Error::Incomplete(_) | Error::RangeIncomplete { .. } => "repeat the command to do the rest",
        Error::NoSuchRegion { .. } => "`flotilla ctl regions` lists the regions there are",
        Error::Txn(error) if error.is_worth_another() => "begin the transaction again",
        Error::Txn(_) => return None,
        Error::InvalidArgument(_) | Error::UnexpectedAnswer { .. } => return None,
    };
    Some(advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use client::Cause;

    /// What a script decides by: whether it may simply try again.
    #[test]
    fn unavailable_and_undetermined_are_told_apart_under_any_context() {
        let cause = Cause::NotBootstrapped;
        let unavailable = Error::Unavailable { cause: cause.clone() };
        let undetermined = Error::Undetermined { cause };
        let wrap = |error: Error| Err::<(), _>(error).context("put").context("import").unwrap_err();
        assert_eq!(code_of(&wrap(unavailable)), 3);
        assert_eq!(code_of(&wrap(undetermined)), 4);
        assert_eq!(code_of(&wrap(Error::DeadlineExceeded)), 3);
        assert_eq!(code_of(&anyhow::Error::new(Usage("no".to_owned()))), 2);
        assert_eq!(code_of(&anyhow::anyhow!("some file")), 6);
    }
}
