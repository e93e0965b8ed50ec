//! The README's quotation of the page: what stands between two marks is written anew, and nothing else.

use anyhow::Context as _;
use std::path::Path;

const BEGIN: &str = "<!-- figures: written by `make bench-peers` -->\n";
const END: &str = "<!-- end of figures -->\n";

/// Writes `text` between the marks of a file.
pub(crate) fn quote(path: &Path, text: &str) -> anyhow::Result<()> {
    let old = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let new =
        quoted(&old, text).with_context(|| format!("{} has no marks to write between", path.display()))?;
    std::fs::write(path, new).with_context(|| format!("writing {}", path.display()))
}

fn quoted(old: &str, text: &str) -> Option<String> {
    let (head, rest) = old.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}{}\n{END}{tail}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_marks_is_written_anew() {
        let old = format!("before\n{BEGIN}old\nlines\n{END}after\n");
        let new = quoted(&old, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}new\n{END}after\n"));
        assert_eq!(quoted(&new, "new").unwrap(), new);
        assert_eq!(quoted("no marks", "new"), None);
        assert_eq!(quoted(BEGIN, "new"), None);
    }
}
