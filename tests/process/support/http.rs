//! Status pages and metrics, read over HTTP.

use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The body of a page; an error if there is none in time, or another status than 200.
pub(crate) async fn page(address: &str, path: &str) -> Result<String, String> {
    page_within(address, path, Duration::from_secs(5)).await
}

/// The same, of a page that takes longer.
pub(crate) async fn page_within(address: &str, path: &str, limit: Duration) -> Result<String, String> {
    let read = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(limit, read)
        .await
        .map_err(|_| format!("http://{address}{path}: no answer in time"))?
        .map_err(|error| format!("http://{address}{path}: {error}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("http://{address}{path}: no head in {answer:?}"))?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status == "200" {
        Ok(body.to_owned())
    } else {
        Err(format!("http://{address}{path}: {status} {body}"))
    }
}

/// A page of JSON.
pub(crate) async fn json(address: &str, path: &str) -> Result<serde_json::Value, String> {
    let body = page(address, path).await?;
    serde_json::from_str(&body).map_err(|error| format!("http://{address}{path}: {error} in {body}"))
}

/// All samples of `/metrics`.
pub(crate) struct Metrics {
    lines: Vec<(String, f64)>,
}

impl Metrics {
    /// Reads them.
    pub(crate) async fn read(address: &str) -> Result<Self, String> {
        Ok(Self::parse(&page(address, "/metrics").await?))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self { lines: lines.collect() }
    }

    /// The sum of all samples of a metric whose labels contain `label` (`""`: any).
    ///
    /// Panics if there is no such metric: a typing mistake must not read as zero.
    #[track_caller]
    pub(crate) fn sum(&self, metric: &str, label: &str) -> f64 {
        let of_metric = |line: &&(String, f64)| {
            line.0.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        let mut samples = self.lines.iter().filter(of_metric).peekable();
        assert!(samples.peek().is_some(), "there is no metric {metric}");
        samples.filter(|line| line.0.contains(label)).map(|line| line.1).sum()
    }

    /// The samples whose names contain `part`, for people.
    pub(crate) fn show(&self, part: &str) -> String {
        let lines = self.lines.iter().filter(|line| line.0.contains(part));
        lines.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join("\n")
    }
}
