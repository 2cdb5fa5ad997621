//! The list of the cases, and the tests made from it.

/// Calls `$callback! { $argument <row>* }`, with one row for each tier case: number, name, module, the clauses of the contract that it
/// checks, and what it needs, closed by a semicolon. To make tests of the cases in another way than
/// [`tier_conformance`](crate::tier_conformance) does.
///
/// ```
/// macro_rules! count {
///     ({} $($number:literal $name:ident $module:ident [$($clause:ident)*] [$($need:expr),*];)*) => {
///         [$($number),*].len()
///     };
/// }
/// assert_eq!(thermocline_conformance::for_each_tier_case!(count, {}), thermocline_conformance::Case::ALL.len());
/// ```
#[macro_export]
macro_rules! for_each_tier_case {
    ($callback:ident, $argument:tt) => {
        $crate::for_each_tier_case! { [$callback] $argument }
    };
    ([$($callback:tt)+] $argument:tt) => {
        $($callback)+! { $argument
            1 case_001_each_version_reads_exactly point_reads [C1] [];
            2 case_002_gaps_between_versions_read_the_older point_reads [C1] [];
            3 case_003_before_the_first_version_is_absent point_reads [C1 C2] [];
            4 case_004_tombstone_is_its_own_answer point_reads [C2] [];
            5 case_005_late_version_takes_its_own_place point_reads [C6] [$crate::Capability::LateVersions];
            6 case_006_three_versions_in_descending_order point_reads [C6 C14] [$crate::Capability::LateVersions];
            7 case_007_versions_zero_and_maximum_are_usable point_reads [C1] [$crate::Capability::ExtremeVersions];
            8 case_008_reading_creates_no_table point_reads [C3] [];
            9 case_009_contains_follows_get point_reads [C1 C2] [];
            10 case_010_batched_get_answers_each_key_in_order point_reads [C1 C2] [];
            11 case_011_batched_get_of_many_sizes point_reads [C1] [];
            12 case_012_batched_get_keeps_tables_apart point_reads [C1 C7] [];
            13 case_013_previous_is_strictly_below point_reads [C1 C2] [];
            14 case_014_batch_over_tables_is_visible_at_its_version batches [C4] [];
            15 case_015_reader_of_one_row_sees_the_whole_batch concurrency [C4] [];
            16 case_016_empty_batch_changes_nothing batches [C3] [];
            17 case_017_last_write_of_a_batch_wins batches [C5] [];
            18 case_018_set_and_remove_in_one_batch batches [C5] [];
            19 case_019_same_version_again_replaces writes [C5] [$crate::Capability::LateVersions];
            20 case_020_tombstone_replaces_value_of_its_version writes [C5] [$crate::Capability::LateVersions];
            21 case_021_replay_changes_nothing writes [C5] [$crate::Capability::LateVersions];
            22 case_022_tombstone_of_an_unknown_key_is_kept writes [C2] [];
            23 case_023_removing_twice_is_legal writes [C2] [];
            24 case_024_set_remove_set writes [C1 C2] [];
            25 case_025_remove_with_and_without_pre_image writes [C2] [];
            26 case_026_keys_and_values_of_every_kind writes [C15] [];
            27 case_027_empty_value_is_present writes [C2] [];
            28 case_028_refused_batch_changes_nothing writes [C15] [];
            29 case_029_deletion_begins_at_its_version tombstones [C1 C2] [];
            30 case_030_tombstone_below_the_first_value tombstones [C2 C6] [$crate::Capability::LateVersions];
            31 case_031_upper_tombstone_hides_lower_value two_tiers [C2] [];
            32 case_032_newer_value_below_an_older_tombstone_wins two_tiers [C1] [$crate::Capability::LateVersions];
            33 case_033_late_tombstone_above_a_newer_value two_tiers [C6] [$crate::Capability::LateVersions];
            34 case_034_trailing_tombstone_of_a_page_is_delivered tombstones [C8] [];
            35 case_035_one_page_holds_all ranges [C7 C8] [];
            36 case_036_ten_keys_by_three ranges [C7 C8] [];
            37 case_037_has_more_is_exact_at_full_pages ranges [C8] [];
            38 case_038_batch_size_does_not_matter ranges [C7] [];
            39 case_039_bounds_in_byte_order bounds [C7] [];
            40 case_040_bounds_of_every_kind bounds [C11] [];
            41 case_041_inverted_range_is_empty ranges [C11] [];
            42 case_042_range_below_every_version_is_empty ranges [C1] [];
            43 case_043_range_shows_the_older_keys_alone ranges [C1] [];
            44 case_044_newer_key_does_not_shorten_a_page ranges [C8] [];
            45 case_045_visible_key_behind_invisible_pages ranges [C8] [];
            46 case_046_ten_thousand_versions_before_the_next_key ranges [C8] [];
            47 case_047_keys_and_prefixes_of_high_bytes bounds [C7] [];
            48 case_048_tombstones_are_rows_and_count ranges [C8] [];
            49 case_049_missing_table_is_empty_and_exhausted ranges [C3] [];
            50 case_050_range_stays_in_its_table ranges [C7] [];
            51 case_051_skipped_versions_do_not_count ranges [C8] [];
            52 case_052_between_excludes_its_lower_end ranges [C9] [];
            53 case_053_late_keys_ahead_appear_and_behind_do_not cursors [C10] [$crate::Capability::LateVersions];
            54 case_054_newer_keys_never_appear cursors [C10] [];
            55 case_055_steps_between_pages_change_nothing cursors [C10] [];
            56 case_056_dropping_the_key_under_the_cursor cursors [C10 C12] [];
            57 case_057_clear_empties_the_remaining_pages cursors [C13] [];
            58 case_058_wrong_use_is_refused_by_name cursors [C11] [];
            59 case_059_exhausted_cursor_stays_exhausted cursors [C10] [];
            60 case_060_sparse_updates_over_dense_rows two_tiers [C7 C8] [];
            61 case_061_lower_table_created_during_a_scan two_tiers [C10] [];
            62 case_062_one_tier_ends_long_before_the_other two_tiers [C8] [];
            63 case_063_reverse_is_the_mirror_of_forward reverse [C7] [];
            64 case_064_ten_keys_by_three_from_the_end reverse [C7 C8] [];
            65 case_065_resuming_at_an_excluded_end_repeats_nothing reverse [C7] [];
            66 case_066_reverse_below_the_version_of_some_keys reverse [C1 C7] [];
            67 case_067_ensured_table_is_there_and_empty tables [C3] [];
            68 case_068_clearing_a_missing_table_is_nothing tables [C3] [];
            69 case_069_clear_removes_every_version tables [C13] [];
            70 case_070_clear_is_not_undone_by_reopen tables [C13] [Takes($crate::Step::Reopen)];
            71 case_071_clear_is_not_undone_by_a_crash tables [C13] [Takes($crate::Step::Crash)];
            73 case_073_clear_leaves_other_tables batches [C13] [];
            74 case_074_dropping_the_oldest drops [C12] [];
            75 case_075_dropping_from_the_middle_uncovers_the_older drops [C12] [];
            76 case_076_dropping_the_newest_uncovers_the_older drops [C12] [];
            77 case_077_dropping_all_versions_removes_the_key drops [C12] [];
            78 case_078_dropping_a_tombstone_uncovers_the_value drops [C12] [];
            79 case_079_dropping_what_is_not_there_is_nothing drops [C3 C12] [];
            80 case_080_dropping_twice_is_nothing drops [C12] [];
            81 case_081_dropped_version_can_be_written_again drops [C12] [];
            82 case_082_drop_stays_after_every_step drops [C12] [];
            83 case_083_drop_ahead_of_a_scan_takes_effect drops [C12] [];
            84 case_084_drop_over_tables_is_atomic concurrency [C4 C12] [];
            85 case_085_rules_select_what_is_dropped drops [C12] [];
            87 case_087_sets_drops_and_removes_interleaved drops [C12] [];
            88 case_088_size_falls_after_drop_not_after_delete drops [C12] [];
            89 case_089_all_versions_list_each_once two_tiers [C14] [];
            90 case_090_unknown_key_has_no_versions versions [C14] [];
            141 case_141_writers_and_readers_on_many_threads concurrency [C1 C7] [$crate::Capability::LateVersions];
            142 case_142_key_never_vanishes_while_rewritten concurrency [C1] [];
            143 case_143_version_is_visible_with_all_its_tables concurrency [C4] [];
        }
    };
}

/// Makes a test of every case and every backend, one line for each backend: `name: backend`. The tests are called
/// `case_004_tombstone_is_its_own_answer::case_1_name` and so on. `random_histories` is one more, with the default options.
///
/// The lines stand in a module of a test file. Cases whose needs a backend declares not to meet pass without running.
///
/// ```
/// mod tests {
///     use std::sync::Arc;
///     use thermocline_conformance::{Backend, ModelTier, stacked};
///
///     thermocline_conformance::tier_conformance! {
///         model: Backend::new("model", || Arc::new(ModelTier::new())),
///         model_over_model: stacked(&Backend::new("model", || Arc::new(ModelTier::new()))),
///     }
/// }
/// ```
#[macro_export]
macro_rules! tier_conformance {
    ($($name:ident : $backend:expr),+ $(,)?) => {
        $crate::for_each_tier_case! { [$crate::tier_case_tests] { $($name: $backend,)+ } }

        #[$crate::rstest::rstest]
        $(#[case::$name($backend)])+
        fn random_histories(#[case] backend: $crate::Backend) {
            $crate::assert_histories(&backend);
        }
    };
}

/// Calls `$callback! { $argument <row>* }`, with one row for each store case: number, name, module, and what it needs, closed by a
/// semicolon.
///
/// ```
/// macro_rules! count {
///     ({} $($number:literal $name:ident $module:ident [$($need:expr),*];)*) => {
///         [$($number),*].len()
///     };
/// }
/// assert_eq!(thermocline_conformance::for_each_store_case!(count, {}), thermocline_conformance::StoreCase::ALL.len());
/// ```
#[macro_export]
macro_rules! for_each_store_case {
    ($callback:ident, $argument:tt) => {
        $crate::for_each_store_case! { [$callback] $argument }
    };
    ([$($callback:tt)+] $argument:tt) => {
        $($callback)+! { $argument
            72 case_072_pinned_snapshot_keeps_rows_of_a_cleared_table tables [];
            83 case_083_purge_is_refused_by_the_name_of_the_pin tables [];
            86 case_086_drop_rule_of_a_commit_spares_what_it_writes tables [];
            91 case_091_versions_below_a_cutoff_go_but_the_one_seen_there reclaim [];
            92 case_092_version_seen_at_a_cutoff_between_two_stays reclaim [];
            93 case_093_cutoffs_below_and_above_everything reclaim [];
            94 case_094_slices_take_what_one_pass_takes_and_say_how_much reclaim [];
            95 case_095_version_of_an_open_snapshot_stays_as_long reclaim [];
            106 case_106_cut_anywhere_in_the_last_record damage [];
            107 case_107_tails_of_zeros_and_garbage damage [];
            108 case_108_flipped_bit_is_never_a_wrong_value damage [];
            109 case_109_what_was_acknowledged_survives_a_power_cut durability [];
            110 case_110_written_again_after_reopening durability [];
            111 case_111_data_larger_than_every_segment durability [];
            112 case_112_second_opener_is_refused durability [];
            113 case_113_full_disk_refuses_and_goes_on durability [];
            141 case_141_writers_and_readers_share_a_store threads [];
        }
    };
}

/// Makes a test of every case of a store and of every tier case through the store, one line for each backend:
/// `name: store_backend`. `random_histories` is one more. As [`tier_conformance`](crate::tier_conformance), for a
/// [`StoreBackend`](crate::StoreBackend).
///
/// ```
/// mod tests {
///     use std::sync::Arc;
///     use thermocline_conformance::{ModelTier, StoreBackend};
///
///     thermocline_conformance::store_conformance! {
///         model: StoreBackend::new("store over model", || Arc::new(ModelTier::new())),
///     }
/// }
/// ```
#[macro_export]
macro_rules! store_conformance {
    ($($name:ident : $backend:expr),+ $(,)?) => {
        mod store {
            use super::*;
            $crate::for_each_store_case! { [$crate::store_case_tests] { $($name: $backend,)+ } }
        }
        mod tier {
            use super::*;
            $crate::tier_conformance! { $($name: $crate::StoreBackend::as_tier(&$backend),)+ }
        }
    };
}

/// The tests of the store cases for [`store_conformance`](crate::store_conformance), from the rows of
/// [`for_each_store_case`](crate::for_each_store_case).
#[macro_export]
macro_rules! store_case_tests {
    ($backends:tt $($number:literal $name:ident $module:ident [$($need:expr),*];)*) => {
        $($crate::store_case_tests! { @one $backends $number $name })*
    };
    (@one { $($name:ident : $backend:expr,)+ } $number:literal $case:ident) => {
        #[$crate::rstest::rstest]
        $(#[case::$name($backend)])+
        fn $case(#[case] backend: $crate::StoreBackend) {
            $crate::assert_store_case(&backend, $number);
        }
    };
}

/// The tests of the cases for [`tier_conformance`](crate::tier_conformance), from the rows of
/// [`for_each_tier_case`](crate::for_each_tier_case): one `rstest` function for each row, with one case for each backend.
#[macro_export]
macro_rules! tier_case_tests {
    ($backends:tt $($number:literal $name:ident $module:ident [$($clause:ident)*] [$($need:expr),*];)*) => {
        $($crate::tier_case_tests! { @one $backends $number $name })*
    };
    (@one { $($name:ident : $backend:expr,)+ } $number:literal $case:ident) => {
        #[$crate::rstest::rstest]
        $(#[case::$name($backend)])+
        fn $case(#[case] backend: $crate::Backend) {
            $crate::assert_case(&backend, $number);
        }
    };
}
