//! Old versions: up to when they are given up, what holds them, and holding them.

use super::print;
use crate::outcome::{Outcome, Usage};
use anyhow::Context as _;
use clap::Subcommand;
use client::{Admin, Timestamp};
use serde_json::json;
use std::fmt::Write as _;
use std::time::Duration;
use wire::pd::{GcStage, GcStatus};

/// Old versions of keys that transactions write are removed by the placement driver itself.
#[derive(Subcommand, Debug)]
pub(super) enum GcCommand {
    /// Say what holds the safe point where it is.
    Explain,
    /// Keep the versions from now on, or from a timestamp on, in the name of a service; to be repeated before the time is over.
    Hold {
        /// The service.
        name: String,
        /// For how long.
        #[arg(long, value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// From this timestamp on; without it, from now on.
        #[arg(long)]
        at: Option<u64>,
    },
    /// A service needs nothing any more.
    Release {
        /// The service.
        name: String,
    },
}

pub(super) async fn run(admin: &Admin, command: Option<GcCommand>, as_json: bool) -> anyhow::Result<Outcome> {
    match command {
        None => {
            let status = admin.gc().await.context("asking about old versions")?;
            print(if as_json { to_json(&status).to_string() } else { summary(&status) })
        }
        Some(GcCommand::Explain) => {
            let status = admin.gc().await.context("asking about old versions")?;
            let reasons = explain(&status);
            print(if as_json { json!({"reasons": reasons}).to_string() } else { reasons.join("\n") })
        }
        Some(GcCommand::Hold { name, ttl, at }) => {
            if ttl.is_zero() {
                return Err(Usage("--ttl must not be zero".to_owned()).into());
            }
            let at = match at {
                Some(at) => Timestamp(at),
                None => admin.timestamp().await.context("asking for the time")?,
            };
            admin.hold_safe_point(&name, at, ttl).await.with_context(|| format!("holding for {name:?}"))?;
            print(if as_json {
                json!({"ok": true, "name": name, "at": at.0}).to_string()
            } else {
                let ttl = humantime::format_duration(ttl);
                format!("versions from {} on are kept for {name:?} for {ttl}", at.0)
            })
        }
        Some(GcCommand::Release { name }) => {
            admin.release_safe_point(&name).await.with_context(|| format!("releasing {name:?}"))?;
            print(if as_json {
                json!({"ok": true}).to_string()
            } else {
                format!("nothing is kept for {name:?} any more")
            })
        }
    }
}

/// How long ago a timestamp was.
fn ago(status: &GcStatus, at: Timestamp) -> String {
    match at {
        Timestamp(0) => "never".to_owned(),
        at => format!("{} ago", short(status.now.physical_ms().saturating_sub(at.physical_ms()))),
    }
}

fn short(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms / 100 * 100)).to_string()
}

fn summary(status: &GcStatus) -> String {
    let mut text = format!(
        "safe point  {}, {}\nremovable   {}, {}\nstage       {}, for {}\nlife time   {}",
        status.guarded.common.0,
        ago(status, status.guarded.common),
        status.removable.common.0,
        ago(status, status.removable.common),
        status.stage.name(),
        short(status.stage_age_ms),
        short(status.life_ms),
    );
    for service in &status.services {
        write!(
            text,
            "\nheld        by {:?} at {}, {}, for {} more",
            service.name,
            service.at.0,
            ago(status, service.at),
            short(service.left_ms)
        )
        .expect("a string takes all");
    }
    text
}

/// What holds the safe point, the first thing first.
fn explain(status: &GcStatus) -> Vec<String> {
    let mut reasons = Vec::new();
    let by_age = Timestamp::compose(status.now.physical_ms().saturating_sub(status.life_ms), 0);
    match status.stage {
        GcStage::Idle => {}
        GcStage::Guarding => reasons.push(format!(
            "round {} resolves locks of transactions that began by the safe point, since {}: the next one begins when all \
             regions are done; if it takes long, look for regions without a leader",
            status.round,
            short(status.stage_age_ms)
        )),
        GcStage::Removing => reasons.push(format!(
            "round {} removes versions, since {}: the next one begins when all regions are done",
            status.round,
            short(status.stage_age_ms)
        )),
    }
    let lowest = status.services.iter().min_by_key(|service| service.at);
    match lowest.filter(|service| service.at < by_age) {
        Some(service) => reasons.push(format!(
            "the service {:?} holds it at {}, {}, for {} more unless it asks again: `flotilla ctl gc release` ends that",
            service.name,
            service.at.0,
            ago(status, service.at),
            short(service.left_ms)
        )),
        None => reasons.push(format!(
            "the life time of versions holds it: {}, in steps of {} at least",
            short(status.life_ms),
            short(status.interval_ms)
        )),
    }
    reasons
}

fn to_json(status: &GcStatus) -> serde_json::Value {
    let points = |points: &client::SafePoints| {
        let own = points.own.iter().map(|point| json!({"keyspace": point.keyspace, "at": point.at.0}));
        json!({"common": points.common.0, "own": own.collect::<Vec<_>>()})
    };
    let services = status
        .services
        .iter()
        .map(|service| json!({"name": service.name, "at": service.at.0, "left_ms": service.left_ms}));
    json!({
        "round": status.round,
        "stage": status.stage.name(),
        "stage_age_ms": status.stage_age_ms,
        "guarded": points(&status.guarded),
        "removable": points(&status.removable),
        "life_ms": status.life_ms,
        "interval_ms": status.interval_ms,
        "now": status.now.0,
        "services": services.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::SafePoints;
    use wire::pd::ServicePoint;

    fn status() -> GcStatus {
        let at = |ms| Timestamp::compose(ms, 0);
        GcStatus {
            round: 3,
            guarded: SafePoints::common(at(400_000)),
            life_ms: 600_000,
            interval_ms: 120_000,
            now: at(1_000_000),
            ..GcStatus::default()
        }
    }

    /// Whoever asks why old versions are still there is told what holds them: a step that takes long, a service, or their age.
    #[test]
    fn what_holds_the_safe_point_is_named() {
        assert_eq!(explain(&status()), ["the life time of versions holds it: 10m, in steps of 2m at least"]);
        let service =
            |ms| ServicePoint { name: "backup".into(), at: Timestamp::compose(ms, 0), left_ms: 5_000 };
        let held = GcStatus { services: vec![service(399_000), service(900_000)], ..status() };
        assert!(
            explain(&held)[0].contains("\"backup\" holds it at") && explain(&held)[0].contains("10m 1s ago")
        );
        let young = GcStatus { services: vec![service(900_000)], ..status() };
        assert!(explain(&young)[0].starts_with("the life time"));
        let busy = GcStatus { stage: GcStage::Guarding, stage_age_ms: 61_000, ..held };
        assert!(explain(&busy)[0].contains("round 3 resolves locks") && explain(&busy)[0].contains("1m 1s"));
        assert!(summary(&busy).contains("resolving locks, for 1m 1s"), "{}", summary(&busy));
    }
}
