//! Why a process does not start, or ends.

use std::fmt;
use std::path::PathBuf;

/// Why a process does not start, or ends. Its text says what to do; the exit code should not be zero.
#[derive(Debug)]
pub enum ServerError {
    /// The configuration cannot be used: tell the user.
    Config(String),
    /// The configuration file cannot be read.
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody can be reached at this address by us: it is in use, not ours, or not permitted.
    Listen {
        /// Which setting it is.
        setting: &'static str,
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory cannot be used.
    DataDir(String),
    /// The cluster does not take this store, or the store does not fit the cluster.
    Refused(String),
    /// The system refuses something that every process needs (threads, sockets).
    System(std::io::Error),
    /// The placement driver cannot start or go on.
    Pd(::pd::Error),
    /// Told to stop before it was ready.
    Interrupted,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => write!(f, "configuration: {what}"),
            Self::ConfigFile { path, source } => {
                write!(f, "cannot read the configuration file {}: {source}", path.display())
            }
            Self::Listen { setting, address, source } => {
                write!(f, "cannot listen on {address} ({setting}): {source}")?;
                if source.kind() == std::io::ErrorKind::AddrInUse {
                    f.write_str("; stop the process that uses it, or choose another address")?;
                }
                Ok(())
            }
            Self::DataDir(what) | Self::Refused(what) => f.write_str(what),
            Self::System(source) => write!(f, "the system refuses what the process needs: {source}"),
            Self::Pd(error) => error.fmt(f),
            Self::Interrupted => f.write_str("told to stop before it was ready"),
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::ConfigFile { source, .. } | Self::Listen { source, .. } | Self::System(source) => {
                Some(source)
            }
            Self::Pd(error) => Some(error),
            _ => None,
        }
    }
}
