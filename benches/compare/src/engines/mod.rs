//! The list of engines: one module each, behind a cargo feature of the engine's name, and a way to get from a name to a type.

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "kimberlite")]
mod kimberlite;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "persistent-kv")]
mod persistent_kv;
#[cfg(feature = "redb")]
mod redb;
#[cfg(any(feature = "rocksdb", feature = "rocksdb-zstd"))]
mod rocksdb;
#[cfg(any(feature = "rocksdb", feature = "rocksdb-zstd", feature = "rocksdb-ts"))]
mod rocksdb_options;
#[cfg(feature = "rocksdb-ts")]
mod rocksdb_ts;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "surrealkv")]
mod surrealkv;

use thermocline_yardstick::engine::Engine;

/// What is done with an engine once its type is known.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it with this engine.
    fn visit<E: Engine>(self) -> Self::Output;
}

/// Makes the names, the dispatch and a test for each engine out of one table.
macro_rules! engines {
    ($($feature:literal $test:ident $engine:ty;)*) => {
        /// The engines that were built in, as they are called on the command line.
        pub const NAMES: &[&str] = &[$(#[cfg(feature = $feature)] $feature,)*];

        /// Calls the visitor with the engine of this name; `None` if none of it was built in.
        pub fn dispatch<V: Visitor>(name: &str, visitor: V) -> Option<V::Output> {
            match name {
                $(#[cfg(feature = $feature)] $feature => Some(visitor.visit::<$engine>()),)*
                _ => None,
            }
        }

        #[cfg(test)]
        mod tests {
            use super::*;

            $(
                #[cfg(feature = $feature)]
                #[test]
                fn $test() {
                    assert_eq!($feature, <$engine as Engine>::NAME);
                    let directory = tempfile::tempdir().expect("a directory for the store");
                    crate::check::check::<$engine>(directory.path()).unwrap_or_else(|message| panic!("{message}"));
                }
            )*
        }
    };
}

engines! {
    "rocksdb" rocksdb_answers_as_the_model self::rocksdb::RocksDb;
    "rocksdb-zstd" rocksdb_zstd_answers_as_the_model self::rocksdb::RocksDbZstd;
    "rocksdb-ts" rocksdb_ts_answers_as_the_model self::rocksdb_ts::RocksDbTs;
    "lmdb" lmdb_answers_as_the_model self::lmdb::Lmdb;
    "redb" redb_answers_as_the_model self::redb::Redb;
    "fjall" fjall_answers_as_the_model self::fjall::Fjall;
    "surrealkv" surrealkv_answers_as_the_model self::surrealkv::SurrealKv;
    "sled" sled_answers_as_the_model self::sled::Sled;
    "sqlite" sqlite_answers_as_the_model self::sqlite::Sqlite;
    "persistent-kv" persistent_kv_answers_as_the_model self::persistent_kv::PersistentKv;
    "kimberlite" kimberlite_answers_as_the_model self::kimberlite::Kimberlite;
}

/// How versions are kept by all engines that `Versioned` wraps, for their settings.
#[cfg(any(
    feature = "rocksdb",
    feature = "rocksdb-zstd",
    feature = "lmdb",
    feature = "redb",
    feature = "fjall",
    feature = "sled",
    feature = "sqlite"
))]
const VERSIONS_IN_KEYS: &str = "in the keys: table, user key, version inverted; newest first";

/// A number of bytes for people to read.
#[cfg(any(
    feature = "rocksdb",
    feature = "rocksdb-zstd",
    feature = "rocksdb-ts",
    feature = "lmdb",
    feature = "redb",
    feature = "fjall",
    feature = "surrealkv",
    feature = "sled",
    feature = "sqlite",
    feature = "kimberlite"
))]
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
