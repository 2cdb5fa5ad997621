//! An open file of the simulated directory.

use std::fmt;
use std::sync::Arc;

use crate::disk::{Access, DiskFile, DiskResult, FileId, Reason};
use crate::error::{DiskErrorKind, SyncFailed};
use crate::random::Generator;
use crate::sim::disk::{Inner, LABEL, SimDisk, failure, sync_outcome};
use crate::sim::fault::{Call, FaultKind, Misdirection, Operation, Strike};
use crate::sim::state::{Damage, Effect, InodeIndex};
use crate::sim::{to_index, to_offset};

/// The longest file. A real disk allows more; here a stray offset must not take all memory.
const FILE_LEN_MAX_BYTES: u64 = 1 << 32;
/// How far off misdirected transfers land: whole sectors.
const MISDIRECTION_BYTES: u64 = 512;

pub(super) struct SimFile {
    disk: SimDisk,
    inode: InodeIndex,
    id: FileId,
    access: Access,
}

impl SimFile {
    pub(super) fn new(disk: SimDisk, inode: InodeIndex, id: FileId, access: Access) -> Self {
        Self { disk, inode, id, access }
    }

    fn call(&self, operation: Operation, reason: Option<Reason>, offset: u64, len: u64) -> Call {
        Call { operation, file: Some(self.id), reason, offset, len }
    }

    fn check_writable(&self, call: &Call) -> DiskResult<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::Read => Err(failure(DiskErrorKind::Denied, call).with_detail("it was opened for reading only")),
        }
    }

    /// Grows the file to at least `len` if the disk has room for it.
    fn grow(&self, inner: &mut Inner, call: &Call, len: u64) -> DiskResult<()> {
        let len_now = inner.live.live_len(self.inode);
        if len > FILE_LEN_MAX_BYTES {
            return Err(failure(DiskErrorKind::Quota, call));
        }
        if len.saturating_sub(len_now) > inner.available_bytes() {
            return Err(failure(DiskErrorKind::DiskFull, call));
        }
        inner.carry_out(call, Effect::SetLen { inode: self.inode, len: len.max(len_now) });
        Ok(())
    }

    /// How many of `wanted` bytes at `offset` the disk has room for.
    fn room(&self, inner: &Inner, call: &Call, wanted: usize) -> DiskResult<usize> {
        let len_now = inner.live.live_len(self.inode);
        let end = call.offset.saturating_add(to_offset(wanted));
        if end > FILE_LEN_MAX_BYTES {
            return Err(failure(DiskErrorKind::Quota, call));
        }
        let end_max = len_now.saturating_add(inner.available_bytes());
        let room = to_index(end.min(end_max).saturating_sub(call.offset));
        if room == 0 && wanted > 0 { Err(failure(DiskErrorKind::DiskFull, call)) } else { Ok(room) }
    }

    /// Writes under a fault that spoils the data without telling. `bytes` is not empty.
    fn write_spoiled(&self, inner: &mut Inner, call: &Call, bytes: &[u8], strike: &mut Strike) {
        let (inode, offset, generator) = (self.inode, call.offset, &mut strike.generator);
        let whole = Effect::Write { inode, offset, bytes: bytes.into() };
        let grown = Effect::SetLen { inode, len: inner.live.live_len(inode).max(offset + to_offset(bytes.len())) };
        match strike.kind {
            FaultKind::FlipAtRest => {
                let mut bytes = bytes.to_vec();
                flip_one_bit(&mut bytes, generator);
                inner.carry_out(call, Effect::Write { inode, offset, bytes: bytes.into() });
            }
            FaultKind::LoseWrite => inner.carry_out(call, grown),
            FaultKind::MisdirectWrite(misdirection) => {
                inner.carry_out(call, grown);
                let target = match misdirection {
                    Misdirection::SameFile => inode,
                    Misdirection::OtherFile => other_file(inner, inode, generator),
                };
                let avoid = (target == inode).then_some(offset);
                let place = elsewhere(inner.live.live_len(target), avoid, offset, generator);
                let room = to_index(inner.live.live_len(target).saturating_sub(place)).min(bytes.len());
                // A file of one sector has nowhere else to put it; the write is lost then.
                if room > 0 && (target, place) != (inode, offset) {
                    let damaged = Call { operation: Operation::Damage, offset: place, len: to_offset(room), ..*call };
                    inner.carry_out(&damaged, Effect::Write { inode: target, offset: place, bytes: bytes[..room].into() });
                }
            }
            _ => inner.carry_out(call, whole),
        }
    }
}

/// How many of `len` bytes a transfer moves under a fault.
fn shortened(len: usize, strike: Option<&mut Strike>) -> usize {
    let Some(strike) = strike else { return len };
    match strike.kind {
        FaultKind::ShortTransfer if len > 1 => 1 + strike.generator.index(len - 1),
        FaultKind::SingleByte => len.min(1),
        FaultKind::ZeroTransfer => 0,
        FaultKind::FailAfterPart(_) => len / 2,
        _ => len,
    }
}

fn flip_one_bit(bytes: &mut [u8], generator: &mut Generator) {
    let index = generator.index(bytes.len());
    if let Some(byte) = bytes.get_mut(index) {
        *byte ^= 1 << generator.below(8);
    }
}

/// A place in a file of `len` bytes, whole sectors away from `offset`, but not at `avoid` if there is any other.
fn elsewhere(len: u64, avoid: Option<u64>, offset: u64, generator: &mut Generator) -> u64 {
    let within = offset % MISDIRECTION_BYTES;
    let places = len.saturating_sub(within).div_ceil(MISDIRECTION_BYTES).max(1);
    let drawn = generator.below(places);
    let place = within + drawn * MISDIRECTION_BYTES;
    if avoid == Some(place) { within + (drawn + 1) % places * MISDIRECTION_BYTES } else { place }
}

fn other_file(inner: &Inner, inode: InodeIndex, generator: &mut Generator) -> InodeIndex {
    let others: Vec<InodeIndex> = inner.live.live_names.values().copied().filter(|other| *other != inode).collect();
    others.get(generator.index(others.len())).copied().unwrap_or(inode)
}

impl DiskFile for SimFile {
    fn id(&self) -> FileId {
        self.id
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8], reason: Reason) -> DiskResult<usize> {
        let call = self.call(Operation::Read, Some(reason), offset, to_offset(buffer.len()));
        let (mut inner, mut strike) = self.disk.begin(&call).map_err(|kind| failure(kind, &call).with_detail("injected"))?;
        let wanted = shortened(buffer.len(), strike.as_mut());
        let buffer = &mut buffer[..wanted];
        let Some(mut strike) = strike else { return Ok(inner.live.inode(self.inode).live.read(offset, buffer)) };
        if strike.kind == FaultKind::FlipAtRest {
            let len = inner.live.live_len(self.inode).saturating_sub(offset).min(to_offset(wanted));
            if len > 0 {
                let damage = Damage::FlipBit {
                    inode: self.inode,
                    offset: offset + strike.generator.below(len),
                    mask: 1 << strike.generator.below(8),
                };
                inner.carry_out(&Call { operation: Operation::Damage, ..call }, Effect::Damage(damage));
            }
        }
        let inode = inner.live.inode(self.inode);
        let read = match strike.kind {
            FaultKind::StaleRead => inode.durable.read(offset, buffer),
            FaultKind::MisdirectRead => {
                let place = elsewhere(inode.live.len(), Some(offset), offset, &mut strike.generator);
                inode.live.read(place, buffer)
            }
            _ => inode.live.read(offset, buffer),
        };
        if strike.kind == FaultKind::FlipInFlight {
            flip_one_bit(&mut buffer[..read], &mut strike.generator);
        }
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8], reason: Reason) -> DiskResult<usize> {
        let call = self.call(Operation::Write, Some(reason), offset, to_offset(bytes.len()));
        self.check_writable(&call)?;
        let (mut inner, mut strike) = self.disk.begin(&call).map_err(|kind| failure(kind, &call).with_detail("injected"))?;
        let planned = inner.next_write_fails.iter().position(|(inode, _)| *inode == self.inode);
        if let Some(planned) = planned {
            let (_, kind) = inner.next_write_fails.swap_remove(planned);
            return Err(failure(kind, &call).with_detail("injected"));
        }
        if let Some(Strike { kind: FaultKind::FailAfterPart(kind), .. }) = strike {
            if bytes.len() < 2 {
                return Err(failure(kind, &call).with_detail("injected"));
            }
            inner.next_write_fails.push((self.inode, kind));
        }
        let wanted = shortened(bytes.len(), strike.as_mut());
        let count = self.room(&inner, &call, wanted)?;
        let call = Call { len: to_offset(count), ..call };
        let bytes = &bytes[..count];
        match strike {
            _ if count == 0 => {}
            Some(mut strike) => self.write_spoiled(&mut inner, &call, bytes, &mut strike),
            None => inner.carry_out(&call, Effect::Write { inode: self.inode, offset, bytes: Arc::from(bytes) }),
        }
        Ok(count)
    }

    fn len(&self) -> DiskResult<u64> {
        let call = self.call(Operation::Length, None, 0, 0);
        let (inner, _) = self.disk.begin(&call).map_err(|kind| failure(kind, &call).with_detail("injected"))?;
        Ok(inner.live.live_len(self.inode))
    }

    fn allocate(&self, offset: u64, len: u64, reason: Reason) -> DiskResult<()> {
        let call = self.call(Operation::Allocate, Some(reason), offset, len);
        self.check_writable(&call)?;
        let (mut inner, _) = self.disk.begin(&call).map_err(|kind| failure(kind, &call).with_detail("injected"))?;
        if len == 0 { Ok(()) } else { self.grow(&mut inner, &call, offset.saturating_add(len)) }
    }

    fn set_len(&self, len: u64, reason: Reason) -> DiskResult<()> {
        let call = self.call(Operation::SetLen, Some(reason), len, 0);
        self.check_writable(&call)?;
        let (mut inner, _) = self.disk.begin(&call).map_err(|kind| failure(kind, &call).with_detail("injected"))?;
        if len < inner.live.live_len(self.inode) {
            inner.carry_out(&call, Effect::SetLen { inode: self.inode, len });
            return Ok(());
        }
        self.grow(&mut inner, &call, len)
    }

    fn sync_data(&self, reason: Reason) -> Result<(), SyncFailed> {
        let call = self.call(Operation::SyncData, Some(reason), 0, 0);
        let fail = |kind| SyncFailed::new(kind, Some(self.id), reason).with_label(LABEL);
        let (mut inner, strike) = self.disk.begin(&call).map_err(fail)?;
        let (outcome, failed) = sync_outcome(strike.as_ref());
        inner.carry_out(&call, Effect::SyncFile { inode: self.inode, outcome });
        failed.map_or(Ok(()), |kind| Err(fail(kind).with_detail("injected")))
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("id", &self.id).field("access", &self.access).finish_non_exhaustive()
    }
}
