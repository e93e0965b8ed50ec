//! The machine on which figures were taken, in one line that names neither it nor a place on it.

use anyhow::Context as _;
use rustix::fs::{major, minor, stat};
use std::path::Path;

/// Its line. `directory` is where the servers keep their data.
pub(crate) fn line(directory: &Path) -> anyhow::Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let cores = std::thread::available_parallelism()?.get();
    let cpu = field(&read("/proc/cpuinfo")?, "model name", ':').unwrap_or_else(|| "unknown".to_owned());
    let memory = field(&read("/proc/meminfo")?, "MemTotal", ':')
        .and_then(|text| text.strip_suffix(" kB")?.trim().parse::<f64>().ok())
        .map_or_else(|| "unknown".to_owned(), |kib| format!("{:.0} GiB", kib / f64::from(1 << 20)));
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let system = field(&read("/etc/os-release").unwrap_or_default(), "PRETTY_NAME", '=');
    let system = system.map_or_else(String::new, |name| format!(", {}", name.trim_matches('"')));
    let disk = disk(directory, &read("/proc/self/mountinfo")?)?;
    Ok(format!("{cores} cores ({cpu}), {memory} of memory, kernel {}{system}, {disk}", kernel.trim()))
}

fn field(text: &str, name: &str, separator: char) -> Option<String> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.trim_start().strip_prefix(separator)?.trim().to_owned())
}

fn disk(directory: &Path, mounts: &str) -> anyhow::Result<String> {
    let device = stat(directory).context("looking at the directory of the servers' data")?.st_dev;
    let number = format!("{}:{}", major(device), minor(device));
    let kind = kind_of_mount(mounts, &number).unwrap_or_else(|| "a file system unknown".to_owned());
    let link = std::fs::read_link(format!("/sys/dev/block/{number}")).unwrap_or_default();
    let name = link.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(name.map_or_else(|| kind.clone(), |name| format!("{kind} on {name}")))
}

/// The file system's type of the mount of a device (proc(5): `36 35 98:0 /root /mount options … - type source options`).
fn kind_of_mount(mounts: &str, device: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        (head.split(' ').nth(2)? == device).then(|| tail.split(' ').next().map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_line() {
        let line = line(Path::new("/")).unwrap();
        assert!(line.contains("cores") && line.contains("kernel"), "{line}");
        assert!(!line.contains('/') || !line.contains("/dev"), "{line}");
    }

    #[test]
    fn mounts_tell_their_file_system() {
        let mounts = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n";
        assert_eq!(kind_of_mount(mounts, "98:0").as_deref(), Some("ext3"));
        assert_eq!(kind_of_mount(mounts, "98:1"), None);
        assert_eq!(field("a b\t: c d\n", "a b", ':').as_deref(), Some("c d"));
    }
}
