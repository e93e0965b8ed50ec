//! Stacks as the message `perftools.profiles.Profile` of `profile.proto`, which `pprof` and its like read.
//!
//! Of that message only what we know is written: who calls whom, how often, and for how much processor time.

use super::Stacks;
use std::collections::BTreeMap;

/// A message on its way out, field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A whole number; zero is what is not written.
    fn number(&mut self, field: u64, value: u64) {
        if value > 0 {
            self.varint(field << 3);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn numbers(&mut self, field: u64, values: impl IntoIterator<Item = u64>) {
        let mut inner = Self::default();
        values.into_iter().for_each(|value| inner.varint(value));
        self.bytes(field, &inner.0);
    }
}

/// Every text once; the first is empty, as the format wants it.
struct Strings<'a> {
    texts: Vec<&'a str>,
    places: BTreeMap<&'a str, u64>,
}

impl<'a> Strings<'a> {
    fn place(&mut self, text: &'a str) -> u64 {
        let texts = &mut self.texts;
        *self.places.entry(text).or_insert_with(|| {
            texts.push(text);
            texts.len() as u64 - 1
        })
    }
}

/// What was counted.
#[derive(Clone, Copy)]
pub(super) enum Counted {
    /// Interrupts, so many in each second of processor time, for so many seconds.
    Interrupts { seconds: u64, frequency: u32 },
    /// Bytes in use.
    Bytes,
}

/// Encodes them.
pub(super) fn encode(stacks: &Stacks, counted: Counted) -> Vec<u8> {
    let mut strings = Strings { texts: vec![""], places: BTreeMap::from([("", 0)]) };
    let mut profile = Message::default();
    // Names of types and units, and in the end the functions.
    let kinds: &[[&str; 2]] = match counted {
        Counted::Interrupts { .. } => &[["samples", "count"], ["cpu", "nanoseconds"]],
        Counted::Bytes => &[["inuse_space", "bytes"]],
    };
    let kinds: Vec<[u64; 2]> = kinds.iter().map(|kind| kind.map(|text| strings.place(text))).collect();
    let period_nanos = match counted {
        Counted::Interrupts { frequency, .. } => 1_000_000_000 / u64::from(frequency),
        Counted::Bytes => 0,
    };
    let value_type = |message: &mut Message, [kind, unit]: [u64; 2]| {
        message.number(1, kind);
        message.number(2, unit);
    };
    for kind in &kinds {
        profile.message(1, |message| value_type(message, *kind));
    }
    // A location is a function here, so both go by the place of its name.
    for (stack, count) in stacks {
        let places: Vec<u64> = stack.iter().rev().map(|name| strings.place(name)).collect();
        profile.message(2, |sample| {
            sample.numbers(1, places);
            sample.numbers(2, [*count, count * period_nanos].into_iter().take(kinds.len()));
        });
    }
    let names: Vec<u64> = stacks.keys().flatten().map(|name| strings.place(name)).collect();
    let mut written = BTreeMap::new();
    for place in names {
        if written.insert(place, ()).is_some() {
            continue;
        }
        profile.message(4, |location| {
            location.number(1, place);
            location.message(4, |line| line.number(1, place));
        });
        profile.message(5, |function| {
            function.number(1, place);
            function.number(2, place);
            function.number(3, place);
        });
    }
    strings.texts.iter().for_each(|text| profile.bytes(6, text.as_bytes()));
    if let Counted::Interrupts { seconds, .. } = counted {
        profile.number(10, seconds * 1_000_000_000);
        profile.message(11, |message| value_type(message, kinds[1]));
        profile.number(12, period_nanos);
    }
    profile.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of a message: number, and a number or bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let (byte, rest) = bytes.split_first().unwrap();
                *bytes = rest;
                value |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            value
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = varint(&mut bytes);
            let mut content = &bytes[..0];
            if tag & 7 == 2 {
                (content, bytes) = bytes.split_at(value as usize);
            }
            fields.push((tag >> 3, value, content));
        }
        fields
    }

    /// What a tool reads: every location that a sample names is there, and every text that a function names.
    #[test]
    fn samples_lead_to_names() {
        let stack = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let stacks = Stacks::from([(stack("log main write"), 30), (stack("log main sync"), 200)]);
        let bytes = encode(&stacks, Counted::Interrupts { seconds: 2, frequency: 100 });
        let profile = fields(&bytes);
        let all = |number| profile.iter().filter(move |field| field.0 == number).map(|field| field.2);
        let texts: Vec<&str> = all(6).map(|text| std::str::from_utf8(text).unwrap()).collect();
        assert_eq!(texts[0], "");
        let functions: BTreeMap<u64, &str> = all(5)
            .map(|function| {
                let function = fields(function);
                (function[0].1, texts[function[1].1 as usize])
            })
            .collect();
        let locations: BTreeMap<u64, u64> = all(4)
            .map(|location| {
                let location = fields(location);
                (location[0].1, fields(location[1].2)[0].1)
            })
            .collect();
        let mut told = Vec::new();
        for sample in all(2) {
            let sample = fields(sample);
            let places = sample[0].2;
            // All are below 128, so each is one byte.
            let names: Vec<&str> =
                places.iter().map(|place| functions[&locations[&u64::from(*place)]]).collect();
            let mut count = Message::default();
            count.varint(if names[0] == "write" { 30 } else { 200 });
            assert!(sample[1].2.starts_with(&count.0), "{sample:?}");
            told.push(names.join(" "));
        }
        assert_eq!(told, ["sync main log", "write main log"], "the innermost comes first");
        assert!(profile.contains(&(12, 10_000_000, &[])), "a sample stands for 10 ms");
    }
}
