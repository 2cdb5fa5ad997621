//! The mutations: one way each to break the contract, and the cases that must catch it.

macro_rules! mutations {
    ($($(#[doc = $what:literal])+ $name:ident [$($case:literal)*];)*) => {
        /// One way to be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mutation {
            /// None: the wrapper itself adds no fault.
            Unchanged,
            $($(#[doc = $what])+ $name,)*
        }

        /// Each mutation with the numbers of the cases that must fail on it.
        pub(crate) const CAUGHT_BY: &[(Mutation, &[u16])] = &[$((Mutation::$name, &[$($case),*])),*];
    };
}

mutations! {
    // Point reads.
    /// Reads below the version that is asked for instead of at or below it.
    BoundaryExclusive [1 4 29 35 36 64];
    /// Answers with the version that was asked for.
    AnswersRequestedVersion [2 4 44 59];
    /// Reports a tombstone as absent.
    TombstoneAsAbsent [10 12 13 18];
    /// Reports what is absent as deleted.
    AbsentAsTombstone [3 8 11 12];
    /// Takes version 0 for "nothing yet".
    VersionZeroInvisible [7];
    /// Takes the maximum version for "the latest" and stores one below it.
    MaximumVersionReserved [7 13 85];
    /// Answers a batched get in the order of the keys.
    ManySorted [10 11 12];
    /// Answers a duplicate of a batched get once.
    ManyDeduplicated [10];
    /// Looks up every key of a batched get in the table of the first.
    ManyInFirstTable [12];
    /// Forgets the key that is left over behind full groups of eight.
    ManyForgetsRemainder [2 11 67 68];
    /// Counts a tombstone as contained.
    ContainsTombstone [9 18 20 24];
    /// Takes an empty value for none.
    ContainsNeedsBytes [9 27];
    /// The previous version may be the one that is asked for.
    PreviousInclusive [1 3 13 14];
    /// The previous version is the previous value.
    PreviousSkipsTombstone [13 18 20 24];
    /// A read makes its table.
    ReadingMakesTable [8];

    // Writes.
    /// Stores an empty value as a tombstone.
    EmptyValueAsTombstone [9 27 38 63];
    /// A late version hides the newer ones.
    LateVersionHidesNewer [5 6 7 30 33];
    /// A late version is thrown away.
    LateVersionIgnored [5 6 7 45];
    /// A second write of a version is listed beside the first.
    SameVersionTwice [19 20 21 89];
    /// The first write of a version stays.
    FirstWriteStays [19 20];
    /// A second write of a version keeps the first suffix.
    RewriteKeepsSuffix [19];
    /// Applies the first table of a batch alone.
    FirstTableOnly [12 14 25 49 50];
    /// An empty batch makes a table.
    EmptyBatchMakesTable [16];
    /// Ignores the deletion of a key that it does not know.
    UnknownTombstoneIgnored [12 18 31 32];
    /// Refuses the deletion of a key that is deleted.
    SecondRemoveRefused [21 23 55];
    /// A tombstone removes the versions below it.
    TombstoneForgetsHistory [9 10 13 78];
    /// Keys end at their first zero byte.
    KeysEndAtZero [38 47 63];
    /// Keys are equal if they differ in case alone.
    KeysFoldCase [39];
    /// Keys are cut at 4096 bytes.
    KeysCut [26];
    /// Values are cut at 16 MiB.
    ValuesCut [26];
    /// A batch over the budget stays half applied.
    RefusedBatchHalfApplied [28];
    /// Never refuses for want of room.
    BudgetIgnored [28];

    // Ranges.
    /// Fills a page with keys first and removes the invisible ones then.
    PageShortened [37 42 44 51];
    /// As above, and an empty page ends the scan.
    EmptyPageEndsScan [37 44 45 51];
    /// Says that there is more, always.
    HasMoreAlways [35 36 49 59];
    /// Guesses that there is more behind a full page.
    HasMoreGuessed [17 44 47 65];
    /// An excluded start is included.
    ExcludedStartIncluded [40 60 61 62];
    /// An excluded end is included.
    ExcludedEndIncluded [39 41 61 65];
    /// An included end is excluded.
    IncludedEndExcluded [39 40 65];
    /// An inverted range panics.
    InvertedRangePanics [38 41 63];
    /// An inverted range is an error.
    InvertedRangeFails [38 41 63];
    /// A scan without an upper bound runs on into the next table.
    ScanLeavesTable [8 45 49 50];
    /// Bytes compare as signed numbers.
    SignedBytes [47 73];
    /// Keys order by their first eight bytes alone, then by length.
    OrderByLength [26];
    /// Tombstones are left out of ranges.
    RangesHideTombstones [18 20 31 32];
    /// Tombstones do not count against the size of a page.
    TombstonesDoNotCount [29 34 48 52];
    /// A tombstone at the end of a page is lost.
    TrailingTombstoneLost [18 20 31 32];
    /// A range reads the latest version, not the one as of.
    RangeReadsLatest [2 3 14 44];
    /// A range shows keys that are newer than its version, without it.
    RangeShowsNewer [1 3 14 44];
    /// A range at version 0 reads the latest.
    ZeroMeansLatest [1 4 5 22 31 42];
    /// A range gives up on a key after a thousand versions.
    RangeLooksAtThousandVersions [46];
    /// A window between includes its lower end.
    BetweenIncludesLower [38 52 63];
    /// A window between selects keys by any version in it, not the newest below its end.
    BetweenIgnored [38 45 51 52];
    /// A missing table cannot be scanned.
    MissingTableFails [8 49 59 61];
    /// Reverse pages are forward pages, each turned around.
    ReverseByPage [17 57 58 64];
    /// A reverse scan includes an excluded end.
    ReverseRepeatsEnd [39 41 61 65];
    /// A reverse scan reads the latest version.
    ReverseReadsLatest [2 3 14 79];
    /// A streamed scan ignores its direction.
    StreamIsForward [17 47 50 61];

    // Cursors.
    /// The last key is returned again.
    CursorRepeatsLast [17 36 58 64];
    /// The next key is lost if the last one is gone.
    CursorSkipsAfterDrop [56 57];
    /// Pages after the first read the latest version.
    CursorForgetsVersion [37 43 53 54 66];
    /// A cursor counts keys instead of remembering one.
    CursorCountsKeys [56 57];
    /// An exhausted cursor goes on when there is more.
    ExhaustedCursorRevives [57 59];
    /// A cursor of the other direction is taken.
    WrongDirectionTaken [58];
    /// A page of no entries is taken.
    ZeroBatchTaken [58];
    /// After a flush the last key is returned again.
    CursorRepeatsAfterFlush [17 36 58 64];

    // Tables.
    /// A table that is made is made empty, whatever it held.
    EnsureClears [33 67];
    /// A table without rows is not listed.
    EmptyTablesUnlisted [67 69 88];
    /// Clearing leaves the last key.
    ClearLeavesOne [57 69 73];
    /// Clearing empties every table.
    ClearsAllTables [68 73];
    /// Clearing removes the newest versions alone.
    ClearKeepsHistory [69 73];
    /// Clearing hides what is written later at its versions.
    ClearHidesLaterWrites [69];
    /// Clearing a missing table is an error.
    ClearMissingFails [68];
    /// Clearing removes the table itself.
    ClearRemovesTable [69];

    // Drops.
    /// Drops what is older too.
    DropRemovesOlder [75 76 78 79 80];
    /// Drops the whole key.
    DropRemovesKey [74 76 78 80 85];
    /// Writes a tombstone instead.
    DropIsTombstone [56 61 80 85];
    /// A dropped version cannot be written again.
    DropIsForEver [81];
    /// Dropping what is not there is an error.
    DropUnknownFails [69 79 80];
    /// Dropping makes the table.
    DropMakesTable [79];
    /// Drops the next older version where the named one is missing.
    DropTakesNextOlder [79 80];
    /// A tombstone cannot be dropped.
    DropKeepsTombstones [77 78 88];
    /// Drops in the first table of a call alone.
    DropInFirstTableOnly [84];
    /// Does not drop the last version of a key.
    DropKeepsLastVersion [56 82 83 85 87 88];
    /// Statistics forget that something was dropped.
    StatsIgnoreDrops [77 78 88];
    /// Statistics leave tombstones out.
    StatsIgnoreTombstones [20 69 88];

    // All versions.
    /// Lists the oldest first.
    VersionsOldestFirst [76 80 81 85];
    /// Lists values alone.
    VersionsWithoutTombstones [18 20 21 32];
    /// Lists the versions of the next key where the key is unknown.
    VersionsOfNextKey [77 90];

    // Threads.
    /// Applies a batch entry by entry.
    BatchEntryByEntry [15 143];
    /// Answers a batched get key by key, with writes between.
    ManyOneByOne [15 143];
    /// Reads a page row by row, with writes between.
    PageRowByRow [143];
    /// Drops entry by entry.
    DropOneByOne [84];
    /// Clears key by key.
    ClearKeyByKey [84];
    /// Takes a key away before it writes it anew.
    UpdateRemovesFirst [142];
    /// Writes half a value first.
    ValueInHalves [141];

    // Steps.
    /// A flush loses tombstones.
    FlushLosesTombstones [9 10 12 18];
    /// A flush loses empty values.
    FlushLosesEmptyValues [9 21 27 38];
    /// A flush keeps the newest version of each key alone.
    FlushKeepsNewest [2 9 11 85];
    /// A compaction keeps the newest version of each key alone.
    CompactKeepsNewest [2 9 11 85];
    /// A compaction loses suffixes.
    CompactLosesSuffixes [19];
    /// A reopen forgets tables without rows.
    ReopenForgetsEmptyTables [67 70 71 88];
    /// A reopen brings back what was cleared.
    ReopenRevivesCleared [57 69 70 71];
    /// A crash brings back what was cleared.
    CrashRevivesCleared [57 69 70 71];
    /// A reopen brings back what was dropped.
    ReopenRevivesDropped [56 78 80 85];
    /// A compaction drops once more what was dropped before, also if it was written again.
    CompactDropsAgain [81];
}

impl Mutation {
    /// Whether it shows on other threads alone. What such a mutant does not get wrong must be atomic, so that it is caught for what
    /// it does.
    pub(crate) fn is_about_threads(self) -> bool {
        use Mutation as M;
        let thread = [
            M::Unchanged,
            M::BatchEntryByEntry,
            M::ManyOneByOne,
            M::PageRowByRow,
            M::DropOneByOne,
            M::ClearKeyByKey,
            M::UpdateRemovesFirst,
            M::ValueInHalves,
        ];
        thread.contains(&self)
    }

    /// Whether it shows when a step is taken.
    pub(crate) fn is_about_steps(self) -> bool {
        use Mutation as M;
        let step = [
            M::CursorRepeatsAfterFlush,
            M::FlushLosesTombstones,
            M::FlushLosesEmptyValues,
            M::FlushKeepsNewest,
            M::CompactKeepsNewest,
            M::CompactLosesSuffixes,
            M::ReopenForgetsEmptyTables,
            M::ReopenRevivesCleared,
            M::CrashRevivesCleared,
            M::ReopenRevivesDropped,
            M::CompactDropsAgain,
        ];
        step.contains(&self)
    }
}
