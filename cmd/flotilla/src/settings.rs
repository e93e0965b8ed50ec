//! A configuration from three places: a file, `--set key=value`, and flags; the later wins.

use crate::outcome::Usage;
use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use toml::{Table, Value};

/// One `key=value`; the key is dotted, as in `raft.tick=50ms`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) =
            text.split_once('=').ok_or("write it as key=value, for instance raft.tick=50ms")?;
        if key.split('.').any(str::is_empty) {
            return Err(format!("{key:?} is no dotted key, as raft.tick is one"));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// A configuration in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    table: Table,
    /// Where it began, so that a mistake can be found.
    file: Option<PathBuf>,
}

impl Settings {
    /// What a file says.
    pub(crate) fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Usage(format!("cannot read the configuration file {}: {error}", path.display()))
        })?;
        let table = text.parse().map_err(|error| {
            Usage(format!("the configuration file {} is not TOML: {error}", path.display()))
        })?;
        Ok(Self { table, file: Some(path.to_owned()) })
    }

    /// Sets one key. `like` is the default configuration: a text there takes the value as it is (`4096` is a size, too); anywhere else
    /// the value is read as TOML.
    pub(crate) fn set(&mut self, setting: &Setting, like: &impl Serialize) -> anyhow::Result<()> {
        let defaults = Table::try_from(like).context("the defaults as TOML")?;
        let names: Vec<&str> = setting.key.split('.').collect();
        let default = names.iter().try_fold(Value::Table(defaults), |value, name| value.get(name).cloned());
        let read = || format!("value = {}", setting.value).parse::<Table>().ok()?.remove("value");
        let value = match default {
            Some(Value::String(_)) => None,
            _ => read(),
        };
        let value = value.unwrap_or_else(|| Value::String(setting.value.clone()));
        let (last, path) = names.split_last().expect("a key has at least one name");
        let mut table = &mut self.table;
        for name in path {
            table = table
                .entry(*name)
                .or_insert_with(|| Value::Table(Table::new()))
                .as_table_mut()
                .ok_or_else(|| Usage(format!("{}: {name} is a value, no table", setting.key)))?;
        }
        table.insert((*last).to_owned(), value);
        Ok(())
    }

    /// Sets a key of the top level, if there is something to set.
    pub(crate) fn set_top(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.table.insert(key.to_owned(), value.into());
        }
    }

    /// The configuration; keys that it does not know are refused.
    pub(crate) fn finish<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        let from =
            self.file.map_or_else(String::new, |file| format!(" of {} and the command line", file.display()));
        self.table
            .try_into()
            .map_err(|error| Usage(format!("configuration{from}: {}", error.to_string().trim())).into())
    }

    /// As the text of a file.
    pub(crate) fn to_toml(&self) -> String {
        self.table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use server::{PdConfig, StoreConfig};

    fn store(settings: &[&str]) -> anyhow::Result<StoreConfig> {
        let mut made = Settings::default();
        for setting in settings {
            made.set(&setting.parse().map_err(anyhow::Error::msg)?, &StoreConfig::default())?;
        }
        made.finish()
    }

    #[test]
    fn sizes_numbers_and_lists_are_set_as_their_defaults_are() {
        let config = store(&[
            "region.split_size=4096",
            "raft.election_ticks=20",
            "insecure=true",
            "pd_endpoints=[\"a:1\",\"b:2\"]",
            "raft.tick=50ms",
            "listen_addr=127.0.0.1:0",
        ])
        .unwrap();
        assert_eq!(config.region.split_size.0, 4096);
        assert_eq!(config.raft.election_ticks, 20);
        assert!(config.insecure);
        assert_eq!(config.pd_endpoints, ["a:1", "b:2"]);
        assert_eq!(config.raft.tick.0.as_millis(), 50);
        assert_eq!(config.listen_addr, "127.0.0.1:0");
        // What is not set keeps its default.
        assert_eq!(
            config.region.store_heartbeat_interval,
            StoreConfig::default().region.store_heartbeat_interval
        );
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_refused_by_name() {
        for (settings, part) in [
            (&["raft.tikc=50ms"][..], "tikc"),
            (&["nothing=1"], "nothing"),
            (&["raft.tick=soon"], "soon"),
            (&["raft.election_ticks=many"], "many"),
            (&["insecure=true", "insecure.more=1"], "no table"),
        ] {
            let error = store(settings).expect_err(part);
            assert_eq!(crate::outcome::code_of(&error), 2);
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!("novalue".parse::<Setting>().is_err());
        assert!(".a=1".parse::<Setting>().is_err());
    }

    /// The playground writes files for its children; they must read the same.
    #[test]
    fn a_written_configuration_reads_the_same() {
        let mut made = Settings::default();
        made.set(&"schedule.replicas=5".parse().unwrap(), &PdConfig::default()).unwrap();
        made.set_top("listen_addr", Some("127.0.0.1:0"));
        let again = Settings { table: made.to_toml().parse().unwrap(), file: None };
        assert_eq!(made.finish::<PdConfig>().unwrap(), again.finish::<PdConfig>().unwrap());
    }
}
