//! Raw memory behind safe doors: the only place in this crate with `unsafe`.
//!
//! - [`Words`](words::Words): zeroed memory seen as a slice of atomic words. Whatever offset a reader comes with, it reads an atomic
//!   word inside the bounds, so everything built on it (records, leaves, inner nodes, hash tables) is safe code.
//! - [`Values`](values::Values): append-only memory for version nodes. Bytes below a chunk's committed length are never written again.
//! - [`Table`](table::Table): pointers that are set once, from a chunk's number to the chunk.
//! - [`Cell`](cell::Cell): one replaceable state, read without a lock, given back when its last reader has gone.
//! - [`prefetch`]: hints, which read nothing.
//!
//! The benchmark that pays for it is `structures` in `benches/` (its table is in the project's decision record on the hot
//! structure): against the best safe contestant, std's ordered map behind a lock for each table, latest point reads gain a factor
//! of 2 where they miss the cache and of 6 where they do not.

#![expect(unsafe_code, reason = "memory shared between threads at addresses that never move, without a count for each object")]

mod block;
pub(crate) mod cell;
pub(crate) mod table;
pub(crate) mod values;
pub(crate) mod words;

/// Asks the processor to fetch the cache line at `pointer`. A hint: any address will do, nothing is read.
#[inline]
fn prefetch<T>(pointer: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    // SAFETY: a prefetch is a hint for any address at all; SSE is part of every x86-64 target.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(pointer.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
    let _ = pointer;
}
