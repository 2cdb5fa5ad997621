//! The bytes of a simulated file, in pages that copies share until one of them writes.

use std::ops::Range;
use std::sync::Arc;

use crate::sim::{to_index, to_offset};

const PAGE_LEN: usize = 4096;
const PAGE_BYTES: u64 = 4096;

type Page = [u8; PAGE_LEN];

/// Bytes with a length. A missing page reads as zeros, and so does whatever lies behind the last page; bytes of the last page beyond
/// the length are always zero, so that growing needs no work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    len: u64,
    pages: Vec<Option<Arc<Page>>>,
}

impl Content {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; to_index(self.len)];
        let read = self.read(0, &mut bytes);
        debug_assert_eq!(read, bytes.len());
        bytes
    }

    /// Fills as much of `buffer` as the content has from `offset` on.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let available = to_index(self.len.saturating_sub(offset)).min(buffer.len());
        let mut done = 0;
        while done < available {
            let (page, within) = place(offset + to_offset(done));
            let count = (PAGE_LEN - within).min(available - done);
            let target = &mut buffer[done..done + count];
            match self.pages.get(page) {
                Some(Some(page)) => target.copy_from_slice(&page[within..within + count]),
                _ => target.fill(0),
            }
            done += count;
        }
        available
    }

    /// Overwrites from `offset` on; grows if need be.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len = self.len.max(offset + to_offset(bytes.len()));
        let mut done = 0;
        while done < bytes.len() {
            let (page, within) = place(offset + to_offset(done));
            let count = (PAGE_LEN - within).min(bytes.len() - done);
            self.page_mut(page)[within..within + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
    }

    /// Makes `range` zero as far as it lies within the length.
    pub(super) fn zero(&mut self, range: Range<u64>) {
        let end = range.end.min(self.len);
        let mut at = range.start;
        while at < end {
            let (page, within) = place(at);
            let count = (PAGE_LEN - within).min(to_index(end - at));
            if count == PAGE_LEN {
                if let Some(page) = self.pages.get_mut(page) {
                    *page = None;
                }
            } else if matches!(self.pages.get(page), Some(Some(_))) {
                self.page_mut(page)[within..within + count].fill(0);
            }
            at += to_offset(count);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.zero(len..self.len);
            self.pages.truncate(to_index(len.div_ceil(PAGE_BYTES)));
        }
        self.len = len;
    }

    fn page_mut(&mut self, page: usize) -> &mut Page {
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        Arc::make_mut(self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_LEN])))
    }
}

/// The page of an offset and the index within it.
fn place(offset: u64) -> (usize, usize) {
    (to_index(offset / PAGE_BYTES), to_index(offset % PAGE_BYTES))
}
