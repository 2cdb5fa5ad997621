//! Torn write or damage? Every judgement that recovery makes about bytes that are not as they should be, in one function. The same
//! table, with reasons, is `docs/recovery.md`; the tests have a case for each row.

use std::fmt;

/// What is known of one thing that recovery must judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// How the last segment of the chain ends.
    Tail(TailEvidence),
    /// A segment whose header cannot be read.
    Header {
        /// A later segment names it as the one before, or the caller as the one with which the log begins.
        is_named: bool,
        /// Bytes behind the header are a record of this store at this place.
        holds_record: bool,
        /// Another segment has a good header.
        has_others: bool,
        /// The file goes on behind the header, and not only with zeros.
        has_body: bool,
        /// The file is shorter than a header, and not only zeros.
        is_stub: bool,
        /// Where the header should be are only zeros.
        is_blank: bool,
        /// The file does not begin like one of ours.
        is_foreign: bool,
    },
    /// The records that the segment took over when it was begun.
    Carry {
        /// All are there.
        is_whole: bool,
        /// A record of the segment proves that they were durable once; or the log begins with it, as the caller knows.
        is_witnessed: bool,
        /// They came from a segment whose place this one takes, and that one is gone: it is removed only when they are durable.
        is_source_gone: bool,
    },
    /// The segment that another names as the one before.
    Link {
        /// There is such a file.
        exists: bool,
        /// All records up to the length that the successor states are good, and their chain hash is the one that it states.
        is_as_named: bool,
    },
    /// A segment that is not in the chain of the last one.
    Leftover {
        /// A record of it proves that others of it were durable once.
        is_witnessed: bool,
    },
    /// The segment with which the log begins, as the caller knows from elsewhere.
    Base {
        /// The chain leads back to it.
        is_reached: bool,
    },
    /// A segment with a lower number than the one with which the log begins.
    BelowBase,
}

/// How the last segment of the chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailEvidence {
    /// Where the last whole group of good records ends.
    pub(crate) good_end: u64,
    /// What stands there.
    pub(crate) stop: Stop,
    /// The furthest that any good record of the segment, before or behind, says was durable.
    pub(crate) witnessed_through: u64,
    /// The furthest that a record of a clean close, behind, says was durable; 0 if there is none.
    pub(crate) closed_through: u64,
    /// Good headers of records stand behind.
    pub(crate) has_records_behind: bool,
}

/// Why a scan stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Zeros to the end of the file, after a whole group.
    Zeros,
    /// Bytes that are no record, or a group without its end.
    Broken,
    /// A record with good checksums that cannot stand there: wrong sequence, impossible fields.
    Impossible,
}

/// The rows of the decision table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// The end of what was written.
    CleanEnd,
    /// A record behind says that this place was durable.
    WitnessedBehind,
    /// The log was closed behind this place, which was durable by then.
    ClosedBehind,
    /// Nothing but garbage behind.
    TornTail,
    /// Records behind, but none that says that this place was durable: sectors are written in any order.
    TornReordered,
    /// Good checksums around what no writer writes.
    ImpossibleRecord,
    /// A bad header where nothing was ever made durable.
    UnfinishedSegment,
    /// A bad header of a segment that was in use.
    DamagedHeader,
    /// Somebody else's file under a name of ours.
    ForeignSegment,
    /// A segment that was not yet in use when power failed.
    UnfinishedCarry,
    /// Records that were carried over and durable are damaged.
    DamagedCarry,
    /// The records that were carried over are all there.
    WholeCarry,
    /// A segment that a later one names is gone.
    MissingSegment,
    /// A segment is not as its successor knows it.
    ChangedSegment,
    /// A segment is as its successor knows it.
    GoodLink,
    /// A segment that a later one replaced.
    Replaced,
    /// A segment outside the chain that held durable records.
    LostSegment,
    /// A segment from before the log begins.
    CutOff,
    /// The segment with which the log begins is gone.
    MissingBase,
}

/// What recovery does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well: go on.
    Keep,
    /// The log ends here; what follows was never acknowledged as durable. Report how much.
    Cut,
    /// The file is not part of the log. Remove it.
    Drop,
    /// Damage: refuse to open, change nothing.
    Refuse,
}

impl Row {
    /// The row's name in `docs/recovery.md`.
    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::CleanEnd => "R1",
            Self::WitnessedBehind => "R2",
            Self::ClosedBehind => "R3",
            Self::TornTail => "R4",
            Self::TornReordered => "R5",
            Self::ImpossibleRecord => "R6",
            Self::UnfinishedSegment => "R7",
            Self::DamagedHeader => "R8",
            Self::ForeignSegment => "R9",
            Self::WholeCarry => "R10",
            Self::UnfinishedCarry => "R11",
            Self::DamagedCarry => "R12",
            Self::GoodLink => "R13",
            Self::MissingSegment => "R14",
            Self::ChangedSegment => "R15",
            Self::Replaced => "R16",
            Self::LostSegment => "R17",
            Self::CutOff => "R18",
            Self::MissingBase => "R19",
        }
    }

    pub(crate) const fn verdict(self) -> Verdict {
        match self {
            Self::CleanEnd | Self::WholeCarry | Self::GoodLink => Verdict::Keep,
            Self::TornTail | Self::TornReordered => Verdict::Cut,
            Self::UnfinishedSegment | Self::UnfinishedCarry | Self::Replaced | Self::CutOff => Verdict::Drop,
            Self::WitnessedBehind
            | Self::ClosedBehind
            | Self::ImpossibleRecord
            | Self::DamagedHeader
            | Self::ForeignSegment
            | Self::DamagedCarry
            | Self::MissingSegment
            | Self::ChangedSegment
            | Self::LostSegment
            | Self::MissingBase => Verdict::Refuse,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// The row of the decision table that the evidence falls under.
pub(crate) fn judge(evidence: &Evidence) -> Row {
    match *evidence {
        Evidence::Tail(tail) => judge_tail(&tail),
        Evidence::Header { is_named, holds_record, has_others, has_body, is_stub, is_blank, is_foreign } => match () {
            () if is_named || holds_record => Row::DamagedHeader,
            // A segment's length is durable before its header is written, and its header before anything follows: an unfinished
            // one is a page long, with zeros behind it if anything.
            () if is_foreign && (has_body || is_stub) => Row::ForeignSegment,
            () if is_stub => Row::DamagedHeader,
            // Behind a header that was never written there may be garbage in place of the zeros that a segment is filled with ahead of
            // use. The first segment of a store is not filled before it has a header.
            () if has_body && (!is_blank || !has_others) => Row::DamagedHeader,
            () => Row::UnfinishedSegment,
        },
        Evidence::Carry { is_whole: true, .. } => Row::WholeCarry,
        Evidence::Carry { is_witnessed: true, .. } | Evidence::Carry { is_source_gone: true, .. } => Row::DamagedCarry,
        Evidence::Carry { .. } => Row::UnfinishedCarry,
        Evidence::Link { exists: false, .. } => Row::MissingSegment,
        Evidence::Link { is_as_named: true, .. } | Evidence::Base { is_reached: true } => Row::GoodLink,
        Evidence::Link { .. } => Row::ChangedSegment,
        Evidence::Leftover { is_witnessed: true } => Row::LostSegment,
        Evidence::Leftover { .. } => Row::Replaced,
        Evidence::Base { .. } => Row::MissingBase,
        Evidence::BelowBase => Row::CutOff,
    }
}

fn judge_tail(tail: &TailEvidence) -> Row {
    // A record is impossible whatever follows it: its checksums say that it was written like this.
    if tail.stop == Stop::Impossible {
        return Row::ImpossibleRecord;
    }
    if tail.closed_through > tail.good_end {
        return Row::ClosedBehind;
    }
    if tail.witnessed_through > tail.good_end {
        return Row::WitnessedBehind;
    }
    match (tail.stop, tail.has_records_behind) {
        (Stop::Zeros, _) => Row::CleanEnd,
        (_, true) => Row::TornReordered,
        _ => Row::TornTail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: TailEvidence = TailEvidence {
        good_end: 8192,
        stop: Stop::Broken,
        witnessed_through: 8192,
        closed_through: 0,
        has_records_behind: false,
    };
    const HEADER: Evidence = header(false, false, true, false, false, false, false);

    #[expect(clippy::fn_params_excessive_bools, reason = "the evidence is a set of yes and no")]
    const fn header(
        is_named: bool,
        holds_record: bool,
        has_others: bool,
        has_body: bool,
        is_stub: bool,
        is_blank: bool,
        is_foreign: bool,
    ) -> Evidence {
        Evidence::Header { is_named, holds_record, has_others, has_body, is_stub, is_blank, is_foreign }
    }

    /// At least one case for each row, and the near misses.
    fn cases() -> Vec<(Row, Evidence)> {
        let tail = |evidence| Evidence::Tail(evidence);
        let carry = |is_whole, is_witnessed, is_source_gone| Evidence::Carry { is_whole, is_witnessed, is_source_gone };
        vec![
            (Row::CleanEnd, tail(TailEvidence { stop: Stop::Zeros, ..TAIL })),
            (Row::WitnessedBehind, tail(TailEvidence { witnessed_through: 8193, ..TAIL })),
            (Row::WitnessedBehind, tail(TailEvidence { stop: Stop::Zeros, witnessed_through: 8193, ..TAIL })),
            (Row::ClosedBehind, tail(TailEvidence { closed_through: 8193, witnessed_through: 8193, ..TAIL })),
            (Row::TornTail, tail(TAIL)),
            (Row::TornReordered, tail(TailEvidence { has_records_behind: true, ..TAIL })),
            // A close that was itself torn, or that stands behind a torn witness record, proves nothing.
            (Row::TornReordered, tail(TailEvidence { has_records_behind: true, closed_through: 8192, ..TAIL })),
            (Row::ImpossibleRecord, tail(TailEvidence { stop: Stop::Impossible, ..TAIL })),
            (Row::UnfinishedSegment, HEADER),
            (Row::UnfinishedSegment, header(false, false, true, true, false, true, false)),
            (Row::UnfinishedSegment, header(false, false, false, false, false, false, true)),
            (Row::DamagedHeader, header(true, false, true, false, false, true, false)),
            (Row::DamagedHeader, header(false, true, true, true, false, true, false)),
            (Row::DamagedHeader, header(false, false, true, true, false, false, false)),
            (Row::DamagedHeader, header(false, false, false, true, false, true, false)),
            (Row::DamagedHeader, header(false, false, true, false, true, false, false)),
            (Row::ForeignSegment, header(false, false, true, true, false, false, true)),
            (Row::ForeignSegment, header(false, false, false, false, true, false, true)),
            (Row::WholeCarry, carry(true, true, true)),
            (Row::UnfinishedCarry, carry(false, false, false)),
            (Row::DamagedCarry, carry(false, true, false)),
            (Row::DamagedCarry, carry(false, false, true)),
            (Row::GoodLink, Evidence::Link { exists: true, is_as_named: true }),
            (Row::MissingSegment, Evidence::Link { exists: false, is_as_named: false }),
            (Row::ChangedSegment, Evidence::Link { exists: true, is_as_named: false }),
            (Row::Replaced, Evidence::Leftover { is_witnessed: false }),
            (Row::LostSegment, Evidence::Leftover { is_witnessed: true }),
            (Row::GoodLink, Evidence::Base { is_reached: true }),
            (Row::CutOff, Evidence::BelowBase),
            (Row::MissingBase, Evidence::Base { is_reached: false }),
        ]
    }

    #[test]
    fn each_row_is_reached_by_its_evidence() {
        for (row, evidence) in cases() {
            assert_eq!(judge(&evidence), row, "{evidence:?}");
        }
    }

    #[test]
    fn table_in_the_documentation_is_that_of_the_code() {
        let page = include_str!("../../../docs/recovery.md");
        let rows: Vec<(&str, &str)> = page
            .lines()
            .filter(|line| line.starts_with("| R"))
            .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
            .map(|cells| (cells[1], cells[3]))
            .collect();
        let mut expected: Vec<(&str, &str)> = Vec::new();
        for (row, _) in cases() {
            let verdict = match row.verdict() {
                Verdict::Keep => "keep",
                Verdict::Cut => "cut",
                Verdict::Drop => "drop",
                Verdict::Refuse => "refuse",
            };
            if !expected.contains(&(row.id(), verdict)) {
                expected.push((row.id(), verdict));
            }
        }
        expected.sort_by_key(|(id, _)| id[1..].parse::<u32>().unwrap_or_default());
        assert_eq!(rows, expected);
    }
}
