//! Counts and durations that the threads keep, and their form for Prometheus.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use types::MonoTime;

/// The first bucket of every histogram ends here, the next ones at double each.
const BUCKET_NANOS: u64 = 10_000;
/// The last bucket ends at 10 µs × 2^20, about ten seconds.
const BUCKETS: usize = 21;
/// The last bucket of sizes ends at 4^17, sixteen gigabytes.
const SIZE_BUCKETS: usize = 19;

/// Adds to a count that nobody decides by.
pub(crate) fn add(count: &AtomicU64, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}

/// Reads a count.
pub(crate) fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// How long something took, in buckets.
#[derive(Default, Debug)]
pub(crate) struct Durations {
    /// The last one: longer than all bounds.
    buckets: [AtomicU64; BUCKETS + 1],
    nanos: AtomicU64,
}

impl Durations {
    pub(crate) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&self.buckets[bucket_of(nanos)], 1);
        add(&self.nanos, nanos);
    }

    /// From `since` to `now`.
    pub(crate) fn span(&self, since: MonoTime, now: MonoTime) {
        self.observe(now.since(since));
    }

    /// How many were observed.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(get).sum()
    }

    fn histogram(&self) -> Histogram {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(BUCKETS);
        for (index, count) in self.buckets[..BUCKETS].iter().enumerate() {
            cumulative += get(count);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(((BUCKET_NANOS << index) as f64) / 1e9);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative + get(&self.buckets[BUCKETS]));
        histogram.set_sample_sum(get(&self.nanos) as f64 / 1e9);
        histogram
    }
}

/// How large or how many something was, in buckets: zero, then up to each power of four.
#[derive(Default, Debug)]
pub(crate) struct Sizes {
    /// The last one: larger than all bounds.
    buckets: [AtomicU64; SIZE_BUCKETS + 1],
    sum: AtomicU64,
}

impl Sizes {
    pub(crate) fn observe(&self, size: u64) {
        add(&self.buckets[size_bucket_of(size)], 1);
        add(&self.sum, size);
    }

    fn histogram(&self) -> Histogram {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(SIZE_BUCKETS);
        for (index, count) in self.buckets[..SIZE_BUCKETS].iter().enumerate() {
            cumulative += get(count);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(if index == 0 { 0.0 } else { (1_u64 << (2 * (index - 1))) as f64 });
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative + get(&self.buckets[SIZE_BUCKETS]));
        histogram.set_sample_sum(get(&self.sum) as f64);
        histogram
    }
}

fn size_bucket_of(size: u64) -> usize {
    // Bounds are 0, 1, 4, 16 …: one above the power of four that holds it.
    let quarters =
        size.checked_sub(1).map_or(0, |below| below.checked_ilog2().map_or(1, |log| log as usize / 2 + 2));
    if size == 0 { 0 } else { quarters.min(SIZE_BUCKETS) }
}

fn bucket_of(nanos: u64) -> usize {
    let units = nanos.div_ceil(BUCKET_NANOS);
    if units <= 1 { 0 } else { (units - 1).ilog2() as usize + 1 }.min(BUCKETS)
}

/// A label and its value.
pub(crate) type Label<'a> = (&'a str, &'a str);

/// Metrics on their way to a scrape. Calls for one name may repeat with other labels.
#[derive(Default)]
pub(crate) struct Exposition {
    families: Vec<MetricFamily>,
}

impl Exposition {
    /// A count that only grows; its name ends in `_total`.
    pub(crate) fn counter(&mut self, name: &str, help: &str, labels: &[Label<'_>], value: u64) {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        self.metric(name, help, MetricType::COUNTER, labels).set_counter(counter);
    }

    /// A sum of time, which only grows; its name ends in `_seconds_total`.
    pub(crate) fn seconds(&mut self, name: &str, help: &str, labels: &[Label<'_>], value: Duration) {
        let mut counter = Counter::default();
        counter.set_value(value.as_secs_f64());
        self.metric(name, help, MetricType::COUNTER, labels).set_counter(counter);
    }

    /// A value that comes and goes.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, labels: &[Label<'_>], value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        self.metric(name, help, MetricType::GAUGE, labels).set_gauge(gauge);
    }

    /// Durations, in seconds.
    pub(crate) fn durations(&mut self, name: &str, help: &str, labels: &[Label<'_>], durations: &Durations) {
        self.metric(name, help, MetricType::HISTOGRAM, labels).set_histogram(durations.histogram());
    }

    /// Sizes or numbers of things.
    pub(crate) fn sizes(&mut self, name: &str, help: &str, labels: &[Label<'_>], sizes: &Sizes) {
        self.metric(name, help, MetricType::HISTOGRAM, labels).set_histogram(sizes.histogram());
    }

    fn metric(&mut self, name: &str, help: &str, kind: MetricType, labels: &[Label<'_>]) -> &mut Metric {
        if self.families.last().is_none_or(|family| family.name() != name) {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            self.families.push(family);
        }
        let pairs = labels.iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let metrics = self.families.last_mut().expect("pushed above").mut_metric();
        metrics.push(Metric::from_label(pairs.collect()));
        metrics.last_mut().expect("pushed above")
    }

    /// All of them as text, those of the process (memory, files, start) included.
    pub(crate) fn text(mut self) -> String {
        use prometheus::core::Collector as _;
        self.families.extend(prometheus::process_collector::ProcessCollector::for_self().collect());
        self.families.sort_by(|a, b| a.name().cmp(b.name()));
        let encoded = prometheus::TextEncoder::new().encode_to_string(&self.families);
        encoded.expect("every family has metrics of its own kind")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        for (nanos, bucket) in
            [(0, 0), (10_000, 0), (10_001, 1), (20_000, 1), (20_001, 2), (40_001, 3), (u64::MAX, BUCKETS)]
        {
            assert_eq!(bucket_of(nanos), bucket, "{nanos} ns");
        }
    }

    #[test]
    fn a_size_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        for (size, bucket) in [
            (0, 0),
            (1, 1),
            (2, 2),
            (4, 2),
            (5, 3),
            (16, 3),
            (17, 4),
            (1 << 34, 18),
            ((1 << 34) + 1, 19),
            (u64::MAX, 19),
        ] {
            assert_eq!(size_bucket_of(size), bucket, "{size}");
        }
    }

    #[test]
    fn durations_are_exposed_cumulatively_in_seconds() {
        let durations = Durations::default();
        durations.observe(Duration::from_micros(5));
        durations.observe(Duration::from_micros(15));
        durations.observe(Duration::from_secs(60));
        let mut exposition = Exposition::default();
        exposition.durations("took_seconds", "How long.", &[("what", "it")], &durations);
        let text = exposition.text();
        for line in [
            "took_seconds_bucket{what=\"it\",le=\"0.00001\"} 1",
            "took_seconds_bucket{what=\"it\",le=\"0.00002\"} 2",
            "took_seconds_bucket{what=\"it\",le=\"+Inf\"} 3",
            "took_seconds_count{what=\"it\"} 3",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}
