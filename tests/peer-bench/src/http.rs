//! Status pages of servers on this machine.

use anyhow::Context as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The body of a page.
pub(crate) fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let ask = || -> anyhow::Result<String> {
        let socket: SocketAddr = address.parse()?;
        let mut stream = TcpStream::connect_timeout(&socket, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        // The older protocol ends its answer with the connection and never sends it in chunks.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        anyhow::ensure!(head.split_ascii_whitespace().nth(1) == Some("200"), "{head}");
        Ok(body.to_owned())
    };
    ask().with_context(|| format!("asking for http://{address}{path}"))
}

/// The sum of a metric's samples without labels, in Prometheus's text format.
pub(crate) fn metric(page: &str, name: &str) -> Option<u64> {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.parse::<f64>().ok().map(|value| value as u64)
}

/// Ports of loopback that nobody listens on, all different.
pub(crate) fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    // Held until all are known, so that none comes twice.
    let listeners = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<Vec<_>, _>>()?;
    Ok(listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<Vec<_>, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "# HELP a_count how many\na_count_more 7\na_count{x=\"1\"} 5\na_count 1.2e3\n";
        assert_eq!(metric(page, "a_count"), Some(1200));
        assert_eq!(metric(page, "b"), None);
    }

    #[test]
    fn ports_differ() {
        let ports = free_ports(4).unwrap();
        assert!(ports.iter().enumerate().all(|(at, port)| !ports[..at].contains(port)), "{ports:?}");
    }
}
