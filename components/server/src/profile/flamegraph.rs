//! Stacks as a picture: each function a bar above its caller, as wide as its share of the samples.
//!
//! The picture stands alone: a click makes a bar as wide as the picture, and shows what lies above it.

use super::Stacks;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Height of a bar, in pixels.
const BAR: usize = 17;
const WIDTH: usize = 1600;
/// Above the bars.
const HEAD: usize = 30;
/// Bars below this share of all samples are left out: nobody could see them.
const SHARE_MIN: f64 = 0.0005;

/// Bars are nested pictures, whose x and width are shares of the whole; a click scales all of them, and undoes it at the root.
const SCRIPT: &str = "document.documentElement.addEventListener('click',function(e){\
var c=e.target.closest('svg.f');if(!c)return;\
var x=+c.dataset.x,w=+c.dataset.w;\
document.querySelectorAll('svg.f').forEach(function(b){\
var l=(b.dataset.x-x)/w*100,r=b.dataset.w/w*100;\
if(l<0&&l+r>99.9){l=0;r=100}\
b.style.display=l+r<=0.01||l>=99.99?'none':'';\
b.setAttribute('x',l+'%');b.setAttribute('width',r+'%')})})";

#[derive(Default)]
struct Bar {
    samples: u64,
    above: BTreeMap<String, Bar>,
}

impl Bar {
    fn add(&mut self, stack: &[String], samples: u64) {
        self.samples += samples;
        if let Some((name, rest)) = stack.split_first() {
            self.above.entry(name.clone()).or_default().add(rest, samples);
        }
    }

    fn depth(&self, least: f64) -> usize {
        let above = self.above.values().filter(|bar| bar.samples as f64 >= least);
        1 + above.map(|bar| bar.depth(least)).max().unwrap_or(0)
    }
}

/// Draws them; they are counted in `unit`.
pub(super) fn draw(stacks: &Stacks, title: &str, unit: &str) -> String {
    let mut root = Bar::default();
    for (stack, samples) in stacks {
        root.add(stack, *samples);
    }
    let total = root.samples.max(1) as f64;
    let least = total * SHARE_MIN;
    let height = HEAD + root.depth(least) * BAR;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"monospace\" \
         font-size=\"12\">\n<text x=\"4\" y=\"19\">{}: {} {unit}; click a bar to widen it, the lowest to see all</text>\n",
        escape(title),
        root.samples
    );
    let mut picture = Picture { out: &mut out, total, least, height, unit };
    picture.bar("all", &root, 0, 0);
    writeln!(out, "<script><![CDATA[{SCRIPT}]]></script>\n</svg>").expect("a string takes all");
    out
}

struct Picture<'a> {
    out: &'a mut String,
    total: f64,
    least: f64,
    height: usize,
    unit: &'a str,
}

impl Picture<'_> {
    /// A bar that begins after so many samples, and those above it.
    fn bar(&mut self, name: &str, bar: &Bar, before: u64, level: usize) {
        if (bar.samples as f64) < self.least {
            return;
        }
        let (x, width) = (before as f64 / self.total * 100.0, bar.samples as f64 / self.total * 100.0);
        let (y, label) = (self.height - (level + 1) * BAR, escape(name));
        writeln!(
            self.out,
            "<svg class=\"f\" data-x=\"{x:.4}\" data-w=\"{width:.4}\" x=\"{x:.4}%\" width=\"{width:.4}%\" y=\"{y}\" \
             height=\"{BAR}\"><title>{label}: {} {}, {width:.2} %</title><rect width=\"100%\" height=\"{}\" \
             fill=\"{}\"/><text x=\"3\" y=\"12\">{label}</text></svg>",
            bar.samples,
            self.unit,
            BAR - 1,
            colour(name)
        )
        .expect("a string takes all");
        let mut before = before;
        for (name, above) in &bar.above {
            self.bar(name, above, before, level + 1);
            before += above.samples;
        }
    }
}

/// One colour for each crate, so that ours stand out from others'.
fn colour(name: &str) -> String {
    let of = name.trim_start_matches(['<', '&']).split("::").next().unwrap_or_default();
    let hash = of.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    format!("hsl({},65%,{}%)", hash % 360, 72 + hash / 360 % 10)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(names: &str) -> Vec<String> {
        names.split(' ').map(str::to_owned).collect()
    }

    /// The bars of callees lie side by side within their caller's, and are as wide as their shares.
    #[test]
    fn bars_are_as_wide_as_their_shares() {
        let stacks = Stacks::from([
            (stack("log main write"), 30),
            (stack("log main <T>::sync"), 60),
            (stack("raft-0 turn"), 10),
        ]);
        let picture = draw(&stacks, "a & b", "samples");
        assert!(picture.contains("a &amp; b: 100 samples"), "{picture}");
        for line in [
            "<title>all: 100 samples, 100.00 %</title>",
            "<title>log: 90 samples, 90.00 %</title>",
            "<title>write: 30 samples, 30.00 %</title>",
            "<title>&lt;T&gt;::sync: 60 samples, 60.00 %</title>",
        ] {
            assert!(picture.contains(line), "{line}\n{picture}");
        }
        assert!(picture.contains("data-x=\"60.0000\" data-w=\"30.0000\""), "{picture}");
        assert_eq!(picture.matches("<svg").count(), picture.matches("</svg>").count());
    }

    #[test]
    fn no_samples_are_a_picture_too() {
        assert!(draw(&Stacks::new(), "idle", "samples").contains("idle: 0 samples"));
    }
}
