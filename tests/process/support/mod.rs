//! What the tests share: processes and clusters of them, the way in between, recorded clients.

pub(crate) mod binary;
pub(crate) mod cluster;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod network;
pub(crate) mod observed;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod side;
pub(crate) mod table;
pub(crate) mod tree;
