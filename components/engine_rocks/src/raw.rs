//! The few C functions that the safe layer does not wrap. The only unsafe code of this crate.
#![expect(unsafe_code, reason = "calls C functions on pointers that live longer than the call")]

use librocksdb_sys as ffi;
use rocksdb::{AsColumnFamilyRef, AsRawPtr, DB, Options};
use std::ffi::c_char;
use types::KeyRange;

/// RocksDB does not resume by itself after a background error: what it had promised by then is unknown.
pub(crate) fn forbid_resume(options: &mut Options) {
    // SAFETY: the pointer is valid while `options` is borrowed, and nobody else uses it meanwhile.
    unsafe { ffi::rocksdb_options_set_max_bgerror_resume_count(options.as_raw_ptr(), 0) }
}

/// Whether each log file begins with how the one before it ended, which recovery then compares.
pub(crate) fn chain_logs(options: &mut Options, chained: bool) {
    // SAFETY: as in `forbid_resume`.
    unsafe { ffi::rocksdb_options_set_track_and_verify_wals(options.as_raw_ptr(), chained.into()) }
}

/// Asserts what the promise of one recovered prefix rests on (INV-ENGINE-1, INV-ENGINE-3).
pub(crate) fn assert_one_prefix(options: &Options) {
    // SAFETY: the pointer is valid while `options` is borrowed; the functions only read.
    unsafe {
        let raw = options.as_raw_ptr();
        assert_eq!(
            ffi::rocksdb_options_get_wal_recovery_mode(raw),
            rocksdb::DBRecoveryMode::PointInTime as i32,
            "recovery stops at the first gap"
        );
        assert_eq!(
            ffi::rocksdb_options_get_track_and_verify_wals_in_manifest(raw),
            1,
            "a missing log file is found out"
        );
        assert_eq!(
            ffi::rocksdb_options_get_track_and_verify_wals(raw),
            1,
            "a gap between log files is found out"
        );
        assert_eq!(ffi::rocksdb_options_get_atomic_flush(raw), 1, "families are flushed as one");
        assert_eq!(ffi::rocksdb_options_get_unordered_write(raw), 0, "batches are applied in order");
        assert_eq!(ffi::rocksdb_options_get_allow_2pc(raw), 0, "no prepared writes outside of the order");
        assert_eq!(ffi::rocksdb_options_get_two_write_queues(raw), 0, "one queue of writers");
        assert_eq!(
            ffi::rocksdb_options_get_manual_wal_flush(raw),
            0,
            "a write reaches the log before it returns"
        );
        assert_eq!(ffi::rocksdb_options_get_recycle_log_file_num(raw), 0, "no log file is written twice");
        assert_eq!(ffi::rocksdb_options_get_max_bgerror_resume_count(raw), 0, "an error is final");
        assert_ne!(ffi::rocksdb_options_get_max_total_wal_size(raw), 0, "an idle family pins a bounded log");
    }
}

/// About how many bytes `range` occupies in files and memtables; zero when RocksDB cannot say. The safe layer's
/// function leaves memtables out.
pub(crate) fn approximate_size_bytes(db: &DB, cf: &impl AsColumnFamilyRef, range: &KeyRange) -> u64 {
    if range.is_empty() {
        return 0;
    }
    // The C function wants an end. No key of ours begins like this.
    const BEYOND: [u8; 64] = [0xff; 64];
    let end = if range.end.is_empty() { &BEYOND[..] } else { &range.end[..] };
    let flags = ffi::rocksdb_size_approximation_flags_include_memtable
        | ffi::rocksdb_size_approximation_flags_include_files;
    let (start_ptr, start_len) = (range.start.as_ptr().cast::<c_char>(), range.start.len());
    let (end_ptr, end_len) = (end.as_ptr().cast::<c_char>(), end.len());
    let mut size = 0_u64;
    let mut error: *mut c_char = std::ptr::null_mut();
    // SAFETY: one range is announced and one is given; keys, `size` and `error` live until the call returns; `db` and
    // `cf` are borrowed. An error is a malloc'ed string that is ours to free.
    unsafe {
        ffi::rocksdb_approximate_sizes_cf_with_flags(
            db.as_raw_ptr(),
            cf.inner(),
            1,
            &raw const start_ptr,
            &raw const start_len,
            &raw const end_ptr,
            &raw const end_len,
            flags as u8,
            &raw mut size,
            &raw mut error,
        );
        if !error.is_null() {
            ffi::rocksdb_free(error.cast());
            return 0;
        }
    }
    size
}
