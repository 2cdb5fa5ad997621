//! A strategy as a tier meets it: without its types, with everything checked that a hook could do wrong.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thermocline_tier::limits::{KEY_SIZE_BYTES_MAX, VALUE_SIZE_BYTES_MAX};
use thermocline_tier::{MigrationReport, Result, SharedLayout, Version};
use xxhash_rust::xxh3::xxh3_64;

use crate::hook::{call, violation};
use crate::row::StoredRow;
use crate::slot::{SUMMARY_SIZE_BYTES_MAX, Slot};
use crate::strategy::{Migrate, MigrationContext, MigrationContextSource, MigrationScope, Strategy, Summary};

/// What `migrate` changed of a row.
///
/// ```
/// assert_eq!(thermocline_migration::Modified::default().value, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modified {
    /// The new value, if it has one.
    pub value: Option<Bytes>,
    /// The new suffix, if it has one.
    pub suffix: Option<Bytes>,
}

/// A [`Strategy`] without its types. [`erase`] makes one.
pub trait Migration: Send + Sync + fmt::Debug {
    /// The strategy's name.
    fn name(&self) -> &str;

    /// A number that stands for the name in each file's [`Slot`].
    fn tag(&self) -> u64;

    /// Which rows are to be offered to [`Job::migrate`].
    fn scope(&self) -> MigrationScope;

    /// Where keys split.
    fn layout(&self) -> SharedLayout;

    /// Begins a job. It has no context until it is [refreshed](Job::refresh): a job that only observes needs none.
    fn begin(&self) -> Box<dyn Job>;

    /// The id of the present context.
    ///
    /// # Errors
    /// [`CallbackFailed`](thermocline_tier::ErrorKind::CallbackFailed).
    fn context_id(&self) -> Result<u64>;

    /// Checks that a summary, without what is before it in a [`Slot`], can be read.
    ///
    /// # Errors
    /// [`CallbackFailed`](thermocline_tier::ErrorKind::CallbackFailed) saying why not.
    fn check_summary(&self, summary: &[u8]) -> Result<()>;

    /// Asks the strategy whether a file of this summary is worth a rewrite by itself.
    ///
    /// # Errors
    /// [`CallbackFailed`](thermocline_tier::ErrorKind::CallbackFailed), also for a summary that cannot be read.
    fn wants_rewrite(&self, summary: &[u8]) -> Result<bool>;
}

/// One stream of rows on its way to files. Methods are called from one thread at a time, without locks.
///
/// # Errors
/// All fail with [`CallbackFailed`](thermocline_tier::ErrorKind::CallbackFailed) if a hook fails or panics, and with
/// [`CallbackViolation`](thermocline_tier::ErrorKind::CallbackViolation) if it does what it must not, naming the key; then the job has failed and all that it
/// has made is to be thrown away.
pub trait Job: Send + fmt::Debug {
    /// Asks for the present context. To be called between two keys, and before anything is filtered or migrated.
    ///
    /// # Errors
    /// See the trait; also for a context whose id is below that of the one before.
    fn refresh(&mut self) -> Result<()>;

    /// Notes a row that goes to the present file as it is; `is_to_come`: a later rewrite may offer it to [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// See the trait.
    fn observe(&mut self, row: &StoredRow<'_>, is_to_come: bool) -> Result<()>;

    /// Whether a row is to go instead.
    ///
    /// # Errors
    /// See the trait.
    fn filter(&mut self, row: &StoredRow<'_>) -> Result<bool>;

    /// Offers a row that goes to the present file; what is to be changed of it, if anything is.
    ///
    /// # Errors
    /// See the trait.
    fn migrate(&mut self, row: &StoredRow<'_>) -> Result<Option<Modified>>;

    /// Ends the present file; the bytes of its [`Slot`].
    ///
    /// # Errors
    /// See the trait.
    fn end_file(&mut self) -> Result<Vec<u8>>;

    /// What was done so far.
    fn report(&self) -> MigrationReport;
}

/// Takes the types off a strategy.
///
/// ```
/// use std::sync::Arc;
/// use thermocline_migration::{NoMigration, erase};
///
/// assert_eq!(erase(Arc::new(NoMigration)).name(), "none");
/// ```
pub fn erase<S: Strategy>(strategy: Arc<S>) -> Arc<dyn Migration> {
    let (tag, layout) = (xxh3_64(strategy.name().as_bytes()), strategy.layout());
    Arc::new(Erased { strategy, layout, tag })
}

struct Erased<S> {
    strategy: Arc<S>,
    layout: SharedLayout,
    tag: u64,
}

impl<S: Strategy> fmt::Debug for Erased<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Migration").field(&self.strategy.name()).finish()
    }
}

impl<S: Strategy> Erased<S> {
    /// With its id.
    fn context(strategy: &S) -> Result<(S::Context, u64)> {
        let ask = || {
            let context = strategy.contexts().context()?;
            let id = context.id();
            Ok((context, id))
        };
        call("context", || format!("strategy {}", strategy.name()), ask)
    }

    fn summary(bytes: &[u8]) -> Result<S::Summary> {
        call("decode", || format!("a summary of {} bytes", bytes.len()), || S::Summary::decode(bytes))
    }
}

impl<S: Strategy> Migration for Erased<S> {
    fn name(&self) -> &str {
        self.strategy.name()
    }

    fn tag(&self) -> u64 {
        self.tag
    }

    fn scope(&self) -> MigrationScope {
        S::SCOPE
    }

    fn layout(&self) -> SharedLayout {
        Arc::clone(&self.layout)
    }

    fn begin(&self) -> Box<dyn Job> {
        Box::new(TypedJob::<S> {
            layout: Arc::clone(&self.layout),
            strategy: Arc::clone(&self.strategy),
            tag: self.tag,
            context: None,
            summary: None,
            file_context: None,
            observed_from: Version::MAX,
            report: MigrationReport::default(),
        })
    }

    fn context_id(&self) -> Result<u64> {
        Ok(Self::context(&self.strategy)?.1)
    }

    fn check_summary(&self, summary: &[u8]) -> Result<()> {
        Self::summary(summary).map(drop)
    }

    fn wants_rewrite(&self, summary: &[u8]) -> Result<bool> {
        let ((context, _), summary) = (Self::context(&self.strategy)?, Self::summary(summary)?);
        call(
            "wants_rewrite",
            || format!("strategy {}", self.strategy.name()),
            || Ok(self.strategy.wants_rewrite(&context, &summary)),
        )
    }
}

struct TypedJob<S: Strategy> {
    strategy: Arc<S>,
    layout: SharedLayout,
    tag: u64,
    /// With its id.
    context: Option<(S::Context, u64)>,
    /// Of the present file, once something was noted.
    summary: Option<S::Summary>,
    /// The lowest id that rows of the present file were offered under.
    file_context: Option<u64>,
    observed_from: Version,
    report: MigrationReport,
}

impl<S: Strategy> fmt::Debug for TypedJob<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("strategy", &self.strategy.name()).field("report", &self.report).finish_non_exhaustive()
    }
}

impl<S: Strategy> TypedJob<S> {
    /// Refuses what would not be the same key any more, or not fit.
    fn check(&self, row: &StoredRow<'_>, modified: &Modified) -> Result<()> {
        let refuse = |what: String| Err(violation("migrate", &row.place(), &what));
        if let Some(value) = modified.value.as_ref().filter(|value| value.len() > VALUE_SIZE_BYTES_MAX) {
            return refuse(format!("a value of {} bytes, over the limit of {VALUE_SIZE_BYTES_MAX}", value.len()));
        }
        let Some(suffix) = &modified.suffix else { return Ok(()) };
        let key = [row.prefix, suffix].concat();
        if key.len() > KEY_SIZE_BYTES_MAX {
            return refuse(format!("a key of {} bytes, over the limit of {KEY_SIZE_BYTES_MAX}", key.len()));
        }
        let prefix_len = call("layout", || row.place(), || Ok(self.layout.prefix_len(row.table, &key).min(key.len())))?;
        if prefix_len != row.prefix.len() {
            let (name, before) = (self.layout.name(), row.prefix.len());
            return refuse(format!(
                "with the new suffix of {} bytes, layout {name} takes {prefix_len} bytes of the key for its prefix, which has {before}",
                suffix.len()
            ));
        }
        Ok(())
    }

    /// Shows a row that was changed to `migrate` again.
    fn check_idempotent(&mut self, row: &StoredRow<'_>, modified: &Modified) -> Result<()> {
        let value = match &modified.value {
            Some(value) => value,
            None => row.value()?,
        };
        let suffix = modified.suffix.as_deref().unwrap_or(row.suffix);
        let again = StoredRow::new(row.table, row.prefix, suffix, row.version, value);
        let (strategy, context) = (&self.strategy, &mut self.context);
        let Some((context, _)) = context else { return Ok(()) };
        let place = || format!("{} (its own answer)", row.place());
        let answer = call("migrate", place, || strategy.migrate(context, &mut S::Summary::default(), &again))?;
        let Migrate::Modified { value: new_value, suffix: new_suffix } = answer else { return Ok(()) };
        let is_same = new_value.is_none_or(|new| new == *value) && new_suffix.is_none_or(|new| new == *suffix);
        if is_same { Ok(()) } else { Err(violation("migrate", &row.place(), "it changes again what it has made")) }
    }
}

/// A job was not refreshed before rows were offered: a mistake of the tier's.
fn no_context(row: &StoredRow<'_>) -> thermocline_tier::Error {
    violation("migrate", &row.place(), "no context was asked for")
}

impl<S: Strategy> Job for TypedJob<S> {
    fn refresh(&mut self) -> Result<()> {
        let source = || format!("strategy {}", self.strategy.name());
        let (context, id) = Erased::<S>::context(&self.strategy)?;
        if let Some((_, before)) = &self.context
            && id < *before
        {
            return Err(violation("context", &source(), &format!("its id is {id}, and {before} before")));
        }
        if id == u64::MAX {
            return Err(violation("context", &source(), "its id is the highest number, which stands for no context"));
        }
        if self.report.contexts.last() != Some(&id) {
            self.report.contexts.push(id);
        }
        self.context = Some((context, id));
        Ok(())
    }

    fn observe(&mut self, row: &StoredRow<'_>, is_to_come: bool) -> Result<()> {
        let (strategy, summary) = (&self.strategy, &mut self.summary);
        call("observe", || row.place(), || strategy.observe(summary.get_or_insert_default(), row))?;
        if is_to_come {
            self.observed_from = self.observed_from.min(row.version);
        }
        self.report.observed += 1;
        Ok(())
    }

    fn filter(&mut self, row: &StoredRow<'_>) -> Result<bool> {
        let Some((context, _)) = &mut self.context else { return Err(no_context(row)) };
        let goes = call("filter", || row.place(), || self.strategy.filter(context, row))?;
        self.report.filtered += u64::from(goes);
        Ok(goes)
    }

    fn migrate(&mut self, row: &StoredRow<'_>) -> Result<Option<Modified>> {
        let (strategy, summary) = (&self.strategy, &mut self.summary);
        let Some((context, id)) = &mut self.context else { return Err(no_context(row)) };
        self.file_context = Some(self.file_context.map_or(*id, |lowest| lowest.min(*id)));
        let answer = call("migrate", || row.place(), || strategy.migrate(context, summary.get_or_insert_default(), row))?;
        self.report.offered += 1;
        let Migrate::Modified { value, suffix } = answer else { return Ok(None) };
        let modified = Modified { value, suffix };
        if modified == Modified::default() {
            return Ok(None);
        }
        self.check(row, &modified)?;
        if S::IDEMPOTENCE_SAMPLE > 0 && self.report.modified.is_multiple_of(S::IDEMPOTENCE_SAMPLE) {
            self.check_idempotent(row, &modified)?;
        }
        self.report.modified += 1;
        Ok(Some(modified))
    }

    fn end_file(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let summary = self.summary.take();
        let place = || format!("a file's summary by {}", self.strategy.name());
        call("encode", place, || {
            summary.unwrap_or_default().encode(&mut bytes);
            Ok(())
        })?;
        if bytes.len() > SUMMARY_SIZE_BYTES_MAX {
            return Err(violation(
                "encode",
                &place(),
                &format!("{} bytes, over the limit of {SUMMARY_SIZE_BYTES_MAX}", bytes.len()),
            ));
        }
        // One that nobody could read would be made anew again and again.
        Erased::<S>::summary(&bytes)?;
        let slot = Slot {
            tag: self.tag,
            context: self.file_context.take(),
            observed_from: std::mem::replace(&mut self.observed_from, Version::MAX),
            summary: &bytes,
        };
        Ok(slot.encode())
    }

    fn report(&self) -> MigrationReport {
        self.report.clone()
    }
}
