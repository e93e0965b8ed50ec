//! Versions that differ: the older one skips what it does not know, the newer one does without what is missing.

use crate::samples::families;
use bytes::{Bytes, BytesMut};
use codec::{Decode, DecodeError, Encode, Reader, put_varint};
use types::{ClusterId, KeyRange, StoreId};
use wire::hello::{ConnectionRole, Hello};
use wire::kv::{KvPair, KvReply, KvResponse, Scan};
use wire::store::{DiskState, StoreBatch};
use wire::txn::Acquire;

/// The message as a newer version would write it: with fields after the last one that we know.
fn with_more_fields(bytes: &Bytes, tagged: bool) -> Bytes {
    let mut reader = Reader::new(bytes);
    let mut out = BytesMut::new();
    if tagged {
        put_varint(&mut out, reader.varint().unwrap());
    }
    let len = reader.length().unwrap();
    let body = reader.take(len).unwrap();
    assert_eq!(reader.remaining(), 0, "one struct is the whole message");
    let more = [0xff, 0x00, 0x7f, b'?'];
    put_varint(&mut out, (len + more.len()) as u64);
    out.extend_from_slice(body);
    out.extend_from_slice(&more);
    out.freeze()
}

#[test]
fn fields_of_a_newer_version_are_skipped_in_every_message() {
    for family in families() {
        for sample in &family.samples {
            let newer = with_more_fields(&sample.bytes, family.tagged);
            let (debug, _) = (family.read)(&newer).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
            assert_eq!(debug, sample.debug);
        }
    }
}

#[test]
fn fields_that_an_older_version_did_not_write_take_their_defaults() {
    // A hello without its last field; a batch of its first two; a scan of its range alone.
    let hello = Hello {
        cluster_id: ClusterId(7),
        role: ConnectionRole::Store,
        protocol_min: 1,
        protocol_max: 1,
        store_id: StoreId(2),
        to_store_id: StoreId(0),
    };
    assert_eq!(Hello::from_bytes(&without_last_byte(&hello.to_bytes())), Ok(hello));
    let batch = StoreBatch { from_store: StoreId(1), disk: DiskState::Full, messages: Vec::new() };
    assert_eq!(StoreBatch::from_bytes(&without_last_byte(&batch.to_bytes())), Ok(batch));
    let scan = Scan { range: KeyRange::new("a", "b"), ..Scan::default() };
    let mut older = scan.to_bytes();
    for _ in 0..4 {
        older = without_last_byte(&older);
    }
    assert_eq!(Scan::from_bytes(&older), Ok(scan));
    let pair = KvPair { key: "k".into(), value: "v".into(), ttl_ms: 0 };
    assert_eq!(KvPair::from_bytes(&without_last_byte(&pair.to_bytes())), Ok(pair));
    // Who asks for a lock without saying how long it would wait for it does not wait.
    let acquire = Acquire { primary: "p".into(), must_be_new: true, ..Acquire::default() };
    assert_eq!(Acquire::from_bytes(&without_last_byte(&acquire.to_bytes())), Ok(acquire));
}

/// Cuts the last byte, which must be a field of its own, off a struct of less than 128 bytes.
fn without_last_byte(bytes: &Bytes) -> Bytes {
    let mut out = BytesMut::from(&bytes[..bytes.len() - 1]);
    out[0] -= 1;
    out.freeze()
}

#[test]
fn a_variant_of_a_newer_version_is_told_by_name() {
    let newer = Bytes::from_static(&[99, 0]);
    assert_eq!(KvReply::from_bytes(&newer), Err(DecodeError::UnknownVariant { of: "KvReply", tag: 99 }));
    let within = Bytes::from_static(&[1, 2, 99, 0]);
    assert_eq!(KvResponse::from_bytes(&within), Err(DecodeError::UnknownVariant { of: "KvReply", tag: 99 }));
}
