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

/// The tests of one engine. Thermocline has them too: its adapter could be as wrong as another's.
#[cfg(test)]
macro_rules! tests_of {
    ($name:literal $tests:ident $engine:ty) => {
        mod $tests {
            use super::*;

            #[test]
            fn answers_as_the_model() {
                assert_eq!($name, <$engine as Engine>::NAME);
                let directory = tempfile::tempdir().expect("a directory for the store");
                crate::check::check::<$engine>(directory.path()).unwrap_or_else(|message| panic!("{message}"));
            }

            #[test]
            fn keeps_commits_when_the_process_dies() {
                crate::killed::check::<$engine>(concat!("engines::tests::", stringify!($tests)));
            }
        }
    };
}

/// Makes the names, the dispatch and the tests of each engine out of one table.
macro_rules! engines {
    ($($feature:literal $tests:ident $engine:ty;)*) => {
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
                tests_of!($feature $tests $engine);
            )*
            tests_of!("thermocline" of_thermocline thermocline_yardstick::thermocline::Thermocline);
        }
    };
}

engines! {
    "rocksdb" of_rocksdb self::rocksdb::RocksDb;
    "rocksdb-zstd" of_rocksdb_zstd self::rocksdb::RocksDbZstd;
    "rocksdb-ts" of_rocksdb_ts self::rocksdb_ts::RocksDbTs;
    "lmdb" of_lmdb self::lmdb::Lmdb;
    "redb" of_redb self::redb::Redb;
    "fjall" of_fjall self::fjall::Fjall;
    "surrealkv" of_surrealkv self::surrealkv::SurrealKv;
    "sled" of_sled self::sled::Sled;
    "sqlite" of_sqlite self::sqlite::Sqlite;
    "persistent-kv" of_persistent_kv self::persistent_kv::PersistentKv;
    "kimberlite" of_kimberlite self::kimberlite::Kimberlite;
}
