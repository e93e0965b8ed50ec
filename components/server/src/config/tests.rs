//! The templates are the defaults, and say all of them; what contradicts itself is refused with its reason.

use super::*;
use std::collections::BTreeSet;

const STORE: &str = include_str!("../../../../etc/store.toml");
const PD: &str = include_str!("../../../../etc/pd.toml");

/// Every key of a document, with the tables before it.
fn keys(document: &str) -> BTreeSet<String> {
    fn walk(table: &toml::Table, before: &str, keys: &mut BTreeSet<String>) {
        for (name, value) in table {
            let name = format!("{before}{name}");
            match value {
                toml::Value::Table(inner) => walk(inner, &format!("{name}."), keys),
                _ => {
                    keys.insert(name);
                }
            }
        }
    }
    let mut all = BTreeSet::new();
    walk(&document.parse().expect("a document"), "", &mut all);
    all
}

#[test]
fn the_store_template_says_every_key_with_its_default() {
    let parsed: StoreConfig = toml::from_str(STORE).expect("the template is read");
    assert_eq!(parsed, StoreConfig::default());
    let all = toml::to_string(&StoreConfig::default()).expect("written");
    assert_eq!(keys(STORE), keys(&all));
    parsed.validate().expect("the defaults can be used");
}

#[test]
fn the_pd_template_says_every_key_with_its_default() {
    let parsed: PdConfig = toml::from_str(PD).expect("the template is read");
    assert_eq!(parsed, PdConfig::default());
    let all = toml::to_string(&PdConfig::default()).expect("written");
    assert_eq!(keys(PD), keys(&all));
    parsed.validate().expect("the defaults can be used");
}

/// What is said of a store configuration with these lines.
fn refusal(lines: &str) -> String {
    let refused = match toml::from_str::<StoreConfig>(lines) {
        Err(error) => return error.to_string(),
        Ok(config) => config.validate().expect_err("it must be refused"),
    };
    refused.to_string()
}

#[test]
fn what_cannot_work_is_refused_with_its_reason() {
    for (lines, reason) in [
        ("data_dri = 'x'", "unknown field `data_dri`"),
        ("[raft]\nlease = '2s'", "stale reads"),
        ("[raft]\nelection_ticks = 3", "depose a healthy leader"),
        ("[raft]\ntick = '0s'", "tick is zero"),
        ("[raft]\ntick = '5 parsecs'", "is no duration"),
        ("[region]\nsplit_size = 'big'", "is no size"),
        ("listen_addr = '0.0.0.0:20160'", "insecure = true"),
        ("listen_addr = 'nonsense'", "write host:port"),
        ("pd_endpoints = []", "pd_endpoints is empty"),
        ("pd_endpoints = ['here']", "is no host:port"),
        ("[requests]\nslow_request_threshold = '10us'", "0s to log none"),
        ("[transport]\nkeep_alive_timeout = '1s'", "keep_alive_timeout must exceed"),
    ] {
        let said = refusal(lines);
        assert!(said.contains(reason), "{lines:?} is refused with {said:?}");
    }
}

#[test]
fn an_address_is_advertised_as_configured_and_else_as_bound() {
    let bound: SocketAddr = "127.0.0.1:7001".parse().expect("an address");
    let any: SocketAddr = "0.0.0.0:7001".parse().expect("an address");
    assert_eq!(advertised("a", "", bound).expect("bound"), "127.0.0.1:7001");
    assert_eq!(advertised("a", "store-1:0", any).expect("the bound port"), "store-1:7001");
    assert_eq!(advertised("a", "store-1:9", any).expect("as configured"), "store-1:9");
    assert!(advertised("a", "", any).is_err() && advertised("a", "store-1", any).is_err());
    assert_eq!(status_advertised("store-1:9", any), "store-1:7001");
}

#[test]
fn sizes_and_durations_are_written_as_they_are_read() {
    for text in ["1GiB", "256MiB", "64KiB", "4097", "0"] {
        assert_eq!(text.parse::<ByteSize>().expect("a size").to_string(), text);
    }
    assert_eq!("64KB".parse::<ByteSize>().expect("a size"), ByteSize(64_000));
    assert_eq!("1m 30s".parse::<Span>().expect("a duration").to_string(), "1m 30s");
}
