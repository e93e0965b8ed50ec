//! Each anomaly by its name, in the smallest history that has it.

use crate::{History, judge};

fn history(text: &str) -> History {
    History::parse(text).unwrap()
}

/// The names of what is found.
fn found(text: &str) -> Vec<&'static str> {
    judge(&history(text)).anomalies.iter().map(|anomaly| anomaly.name).collect()
}

#[test]
fn what_snapshot_isolation_allows_is_allowed() {
    assert_eq!(found(""), [""; 0]);
    let plain = "0-9 ok +1:1 +2:2
                 1-9 info +1:3
                 20-29 ok 1=1,3 2=2 +1:4 1=1,3,4
                 21-28 fail +1:5
                 40-49 ok 1=1,3,4 2=2";
    assert_eq!(found(plain), [""; 0]);
    assert_eq!(judge(&history(plain)).write_skew, None);
}

#[test]
fn write_skew_is_told_apart() {
    let skew = "0-9 ok 1= +2:1
                0-9 ok 2= +1:2
                20-29 ok 1=2 2=1";
    let verdict = judge(&history(skew));
    assert_eq!(verdict.anomalies, []);
    assert_eq!(verdict.write_skew.map(|anomaly| anomaly.name), Some("G2-item"));
}

#[test]
fn dirty_writes_are_g0() {
    assert_eq!(found("0-9 ok +1:1 +2:1\n0-9 ok +1:2 +2:2\n20-29 ok 1=1,2 2=2,1"), ["G0"]);
}

#[test]
fn dirty_reads_are_g1a_and_intermediate_ones_g1b() {
    assert_eq!(found("0-9 fail +1:1\n20-29 ok 1=1"), ["G1a"]);
    assert!(found("0-9 ok +1:1 +1:2\n0-9 ok 1=1").contains(&"G1b"));
}

#[test]
fn who_see_each_other_are_g1c() {
    assert_eq!(found("0-9 ok +1:1 2=2\n0-9 ok +2:2 1=1"), ["G1c"]);
}

#[test]
fn read_skew_and_lost_updates_are_g_single() {
    let read_skew = "0-9 ok +1:1 +2:2\n0-9 ok 1=1 2=\n20-29 ok 2=2";
    assert_eq!(found(read_skew), ["G-single-item"]);
    let lost_update = "0-9 ok 1= +1:1\n0-9 ok 1= +1:2\n20-29 ok 1=1,2";
    assert_eq!(found(lost_update), ["G-single-item"]);
}

/// Two readers see two writers in different orders, which takes two edges of what was not seen: not one after the other.
#[test]
fn a_long_fork_is_g_nonadjacent() {
    let fork = "0-9 ok +1:1\n0-9 ok +2:2\n0-9 ok 1=1 2=\n0-9 ok 1= 2=2";
    assert_eq!(found(fork), ["G-nonadjacent-item"]);
}

#[test]
fn what_had_ended_is_seen() {
    assert_eq!(found("0-9 ok +1:1\n20-29 ok 1=\n40-49 ok 1=1"), ["lost-append", "G-single-item-realtime"]);
    assert_eq!(found("0-9 ok +1:1\n20-29 ok 1="), ["lost-append", "G-single-item-realtime"]);
    assert_eq!(found("20-29 ok +1:1\n0-9 ok 1=1"), ["G1c-realtime"]);
    assert_eq!(found("20-29 ok +1:1\n0-9 ok +1:2\n40-49 ok 1=1,2"), ["G0-realtime"]);
}

#[test]
fn lists_that_cannot_be_are_told() {
    assert!(
        found("0-9 ok +1:1\n0-9 ok +1:2\n20-29 ok 1=1,2\n20-29 ok 1=2,1").contains(&"incompatible-order")
    );
    assert!(found("0-9 ok +1:1\n20-29 ok 1=1,1").contains(&"duplicate-elements"));
    assert!(found("20-29 ok 1=7").contains(&"garbage"));
    assert!(found("0-9 ok +1:1 1=").contains(&"internal"));
    assert!(found("0-9 ok 1= 1=1\n0-9 ok +1:1").contains(&"internal"));
}

/// Of thousands of transactions, one circle is found among all that are well, in time that grows with their number.
#[test]
fn one_among_thousands_is_found() {
    let mut text = String::new();
    for number in 0..3_000 {
        let (begun, ended) = (number * 10, number * 10 + 9);
        let seen: Vec<String> = (number / 20 * 20..number).map(|element| element.to_string()).collect();
        let list = number / 20;
        text.push_str(&format!("{begun}-{ended} ok {list}={} +{list}:{number}\n", seen.join(",")));
    }
    assert_eq!(found(&text), [""; 0]);
    text.push_str("30100-30109 ok +9001:1 9002=2\n30100-30109 ok +9002:2 9001=1\n");
    assert_eq!(found(&text), ["G1c"]);
}
