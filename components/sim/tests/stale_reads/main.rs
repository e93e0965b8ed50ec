//! Ways to read what is no longer so, each played on purpose.
//!
//! A leader that others have replaced must not answer reads by its lease. What keeps it from that are rules about when
//! clocks are read, how missed time is counted, what a voter promises, what a transfer may override, and what a split
//! ends. Each script here brings about the moment at which one rule matters: another store has acknowledged a newer
//! value, and then a client asks the old leader. With the rule the client gets the newer value; with the rule broken on
//! purpose the history has no explanation, and the script says so. A script whose moment does not come is a failure of
//! the script.

mod clocks;
mod splits;
mod support;
mod transfers;
mod votes;
