//! What processes cost, as the system and they themselves say.

use anyhow::Context as _;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Processor time that a process has used so far.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let ticks = cpu_ticks(&text).with_context(|| format!("{path} is not as expected"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// User and system time of a line of `/proc/<pid>/stat`, in ticks (proc(5): fields 14 and 15).
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the name, in parentheses, and may hold anything.
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Memory that a process has resident, in bytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    resident_bytes(&text).with_context(|| format!("{path} is not as expected"))
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A page of a status address.
async fn page(status_address: &str, path: &str) -> anyhow::Result<String> {
    let ask = async {
        let mut stream = TcpStream::connect(status_address).await?;
        // The older protocol ends its answer with the connection and never sends it in chunks.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {status_address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(5), ask)
        .await
        .context("no answer within 5 s")
        .flatten()
        .with_context(|| format!("asking for http://{status_address}{path}"))
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a store counts about itself.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: u64,)*
        }

        impl Counters {
            fn of(counters: &Value) -> Option<Self> {
                Some(Self { $($name: counters[stringify!($name)].as_u64()?,)* })
            }
        }

        impl std::ops::Add for Counters {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }
        }

        impl std::ops::Sub for Counters {
            type Output = Self;
            /// What was counted since `earlier`.
            fn sub(self, earlier: Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }
    };
}

counters!(
    fsyncs,
    /// Appends of single groups.
    log_appends,
    log_bytes,
    applied_entries,
    apply_writes,
    messages_received,
    snapshots_installed,
);

impl Counters {
    /// Asks a store's status page.
    pub(crate) async fn ask(status_address: &str) -> anyhow::Result<Self> {
        let answer = page(status_address, "/status").await?;
        Self::read(&answer).with_context(|| format!("http://{status_address}/status is not as expected"))
    }

    fn read(answer: &str) -> Option<Self> {
        let (head, body) = answer.split_once("\r\n\r\n")?;
        if head.split_ascii_whitespace().nth(1) != Some("200") {
            return None;
        }
        let status: Value = serde_json::from_str(body).ok()?;
        Self::of(&status["counters"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a"), None);
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2 << 20));
    }

    #[test]
    fn our_own_process_can_be_measured() {
        let own = std::process::id();
        assert!(cpu(own).is_ok());
        assert!(resident(own).unwrap() > 1 << 16);
    }

    #[test]
    fn counters_are_read_from_a_status_page() {
        let page = "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n\
                    {\"counters\":{\"fsyncs\":3,\"log_appends\":4,\"log_bytes\":500,\"applied_entries\":12,\
                    \"apply_writes\":5,\"messages_received\":6,\"snapshots_installed\":0,\"more\":7}}";
        let read = Counters::read(page).unwrap();
        assert_eq!((read.fsyncs, read.log_bytes, read.applied_entries), (3, 500, 12));
        assert_eq!((read + read - read, (read - (read + read)).fsyncs), (read, 0));
        assert_eq!(Counters::read("HTTP/1.0 503 no\r\n\r\n{}"), None);
        assert_eq!(Counters::read("HTTP/1.0 200 OK\r\n\r\n{}"), None);
    }
}
