//! The commands about what is kept: horizon, drop, retention, pins.

use std::io::Write;
use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use thermocline::{
    Amount, Anchor, Background, ConsumerInfo, Holding, KeyRange, OpenMode, PinRequest, PinVersions, PolicyScope, Retention, Rung,
    Scope, Store, Ttl, Version,
};

use crate::arguments::{self, Drop, Format, Pins, PolicyOf, Reclaim, Report, Writing};
use crate::compact::Moment;
use crate::failure::Failure;
use crate::open;
use crate::output::{Shown, put, put_values};

/// The first moment that cannot be printed as a date.
const YEAR_10_000: Duration = Duration::from_secs(253_402_300_799);

/// Opens a store to change what it knows, and nothing else.
pub(crate) fn for_keeping(directory: &Path) -> Result<Store, Failure> {
    Ok(Store::builder(directory).mode(OpenMode::MustExist).background(Background::ByHand).log_keep(u64::MAX).open()?)
}

/// Prints from which version on what can be read.
pub(crate) fn horizon(arguments: &Report, out: &mut dyn Write) -> Result<(), Failure> {
    let store = open::for_reading(&arguments.directory)?;
    let own = |table| (table, store.table_horizon(table));
    let tables: Vec<_> = store.tables()?.into_iter().map(own).filter(|(_, own)| *own > store.horizon()).collect();
    if arguments.format != Format::Text {
        let tables: Map<String, Value> = tables.iter().map(|(table, own)| (table.to_string(), json!(own.0))).collect();
        let values = json!({ "horizon": store.horizon().0, "last_version": store.last_version().0, "tables": tables });
        return put_values(out, arguments.format, &values);
    }
    put!(out, "every version from {} to {} can be read", store.horizon(), store.last_version())?;
    tables.iter().try_for_each(|(table, own)| put!(out, "of table {table}: from {own} on, by its policy"))
}

/// Moves the horizon, and rewrites the files without what nobody may read any more.
pub(crate) fn drop_before(arguments: &Drop, out: &mut dyn Write) -> Result<(), Failure> {
    let move_horizon = |store: &Store| store.set_horizon(Version(arguments.before)).map(|()| store.horizon());
    let (horizon, before, after) = rewrite(&arguments.directory, &arguments.writing, move_horizon)?;
    if arguments.format != Format::Text {
        let values = json!({ "horizon": horizon.0, "before": before.json(), "after": after.json() });
        return put_values(out, arguments.format, &values);
    }
    put!(out, "horizon {horizon}: every version from there on can be read")?;
    before.put("before", out)?;
    after.put("after", out)
}

/// Moves horizons, and rewrites the files without what nobody may read any more: what they were before and after.
fn rewrite<T>(
    directory: &Path,
    writing: &Writing,
    move_horizons: impl FnOnce(&Store) -> thermocline::Result<T>,
) -> Result<(T, Moment, Moment), Failure> {
    let builder = open::for_writing(directory, writing);
    let store = builder.mode(OpenMode::MustExist).background(Background::ByHand).open()?;
    let before = Moment::of(&store);
    store.flush()?;
    // What policies let go, and leases that are over.
    store.apply_retention()?;
    let moved = move_horizons(&store)?;
    for table in store.tables()? {
        store.compact(table, &KeyRange::all())?;
    }
    let after = Moment::of(&store);
    store.close()?;
    Ok((moved, before, after))
}

/// Prints the policies, or sets one.
pub(crate) fn retention(arguments: &arguments::Retention, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(scope) = arguments.scope.scope().filter(|_| arguments.set.is_some() || arguments.unset) else {
        let store = open::for_reading(&arguments.directory)?;
        let policies = store.retentions();
        let policies = policies.iter().map(|(scope, policy)| (scope_name(*scope), policy_text(policy)));
        return put_policies(
            policies,
            "none: tables keep every version from the horizon on, those of operators the latest alone",
            arguments.format,
            out,
        );
    };
    let store = for_keeping(&arguments.directory)?;
    store.set_retention(scope, arguments.set.clone())?;
    store.apply_retention()?;
    Ok(store.close()?)
}

/// Prints when rows expire, or sets it.
pub(crate) fn ttl(arguments: &arguments::Ttl, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(scope) = arguments.scope.scope().filter(|_| arguments.set.is_some() || arguments.unset) else {
        let ttls = open::for_reading(&arguments.directory)?.ttls();
        let ttls = ttls.iter().map(|(scope, ttl)| (scope_name(*scope), ttl_text(*ttl)));
        return put_policies(ttls, "none: rows live for ever", arguments.format, out);
    };
    let store = for_keeping(&arguments.directory)?;
    store.set_ttl(scope, arguments.set)?;
    store.run_until_idle();
    Ok(store.close()?)
}

/// Prints names with what was set for them, or that there is none.
fn put_policies(
    policies: impl Iterator<Item = (String, String)>,
    none: &str,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let policies: Vec<(String, String)> = policies.collect();
    if format != Format::Text {
        let policies: Map<String, Value> = policies.into_iter().map(|(name, policy)| (name, policy.into())).collect();
        return put_values(out, format, &Value::Object(policies));
    }
    if policies.is_empty() {
        return put!(out, "{none}");
    }
    policies.iter().try_for_each(|(name, policy)| put!(out, "{name}: {policy}"))
}

impl PolicyOf {
    fn scope(&self) -> Option<PolicyScope> {
        match (self.table, self.sources, self.operators) {
            (Some(table), _, _) => Some(PolicyScope::Table(table)),
            (None, true, _) => Some(PolicyScope::Sources),
            (None, false, true) => Some(PolicyScope::Operators),
            (None, false, false) => None,
        }
    }
}

fn scope_name(scope: PolicyScope) -> String {
    match scope {
        PolicyScope::Sources => "sources".to_owned(),
        PolicyScope::Operators => "operators".to_owned(),
        PolicyScope::Table(table) => table.to_string(),
    }
}

/// A policy as it is written on the command line.
pub(crate) fn parse_policy(text: &str) -> Result<Retention, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_not_digits| format!("`{text}` is no number"));
    let policy = match text.split_once(':') {
        None if text == "all" => Retention::KeepAll,
        None if text == "latest" => Retention::LatestOnly,
        Some(("newest", count)) => Retention::NewestVersions(number(count)?),
        Some(("since", version)) => Retention::Since(Version(number(version)?)),
        Some(("age", age)) => Retention::Age(parse_time(age)?),
        Some(("ladder", rungs)) => Retention::Ladder(rungs.split(',').map(parse_rung).collect::<Result<_, _>>()?),
        _ => return Err("none of all, latest, newest:N, since:VERSION, age:TIME and ladder:TIME,TIME/STEP,..".to_owned()),
    };
    policy.check().map_err(|error| error.to_string())?;
    Ok(policy)
}

/// A time to live as it is written on the command line.
pub(crate) fn parse_ttl(text: &str) -> Result<Ttl, String> {
    let (anchor, after) = match text.split_once(':') {
        Some(("created", after)) => (Anchor::Created, after),
        Some(("updated", after)) => (Anchor::Updated, after),
        _ => return Err("neither created:TIME nor updated:TIME".to_owned()),
    };
    let ttl = Ttl { after: parse_time(after)?, anchor };
    ttl.check().map_err(|error| error.to_string())?;
    Ok(ttl)
}

fn ttl_text(ttl: Ttl) -> String {
    let anchor = if ttl.anchor == Anchor::Created { "created" } else { "updated" };
    format!("{anchor}:{}", time_text(ttl.after))
}

fn parse_rung(text: &str) -> Result<Rung, String> {
    let (age, every) = text.split_once('/').unwrap_or((text, "0s"));
    Ok(Rung { age: parse_time(age)?, every: parse_time(every)? })
}

fn parse_time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("`{text}`: {error}"))
}

fn time_text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

fn policy_text(policy: &Retention) -> String {
    match policy {
        Retention::KeepAll => "all".to_owned(),
        Retention::LatestOnly => "latest".to_owned(),
        Retention::NewestVersions(count) => format!("newest:{count}"),
        Retention::Since(version) => format!("since:{version}"),
        Retention::Age(age) => format!("age:{}", time_text(*age)),
        Retention::Ladder(rungs) => {
            let rung = |rung: &Rung| match rung.every {
                Duration::ZERO => time_text(rung.age),
                every => format!("{}/{}", time_text(rung.age), time_text(every)),
            };
            format!("ladder:{}", rungs.iter().map(rung).collect::<Vec<_>>().join(","))
        }
    }
}

/// Prints who keeps old versions or the log, or makes and releases pins.
pub(crate) fn pins(arguments: &Pins, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(name) = &arguments.release {
        let store = for_keeping(&arguments.directory)?;
        store.release_pin(name)?;
        return Ok(store.close()?);
    }
    if let Some(name) = &arguments.set {
        let store = for_keeping(&arguments.directory)?;
        let one = |version| PinVersions::One(Version(version));
        let versions = arguments.at.map(one).or(arguments.from.map(|from| PinVersions::From(Version(from))));
        let request = PinRequest {
            versions: versions.unwrap_or(PinVersions::One(store.last_version())),
            scope: arguments.table.map_or(Scope::All, Scope::Table),
            lease: arguments.lease,
        };
        store.pin_with(name, request)?;
        return Ok(store.close()?);
    }
    let store = open::for_reading(&arguments.directory)?;
    let (pins, consumers) = (store.pins(), store.consumers());
    if arguments.format != Format::Text {
        let lease = |pin: &thermocline::Pin| pin.lease_until.map(thermocline::Moment::as_micros);
        let pins: Map<String, Value> = pins
            .iter()
            .map(|(name, pin)| {
                let (one, from) = match pin.versions {
                    PinVersions::One(version) => (Some(version.0), None),
                    PinVersions::From(version) => (None, Some(version.0)),
                };
                let of = scope_text(&pin.scope);
                let since = pin.created.as_micros();
                let value = json!({ "at": one, "from": from, "of": of, "since_micros": since, "lease_until_micros": lease(pin) });
                (name.clone(), value)
            })
            .collect();
        let consumers: Map<String, Value> =
            consumers.iter().map(|consumer| (consumer.name.clone(), consumer_json(consumer))).collect();
        return put_values(out, arguments.format, &json!({ "pins": pins, "consumers": consumers }));
    }
    for (name, pin) in &pins {
        let versions = match pin.versions {
            PinVersions::One(version) => format!("version {version}"),
            PinVersions::From(version) => format!("every version from {version} on"),
        };
        let until = pin.lease_until.map(|until| format!(", until {}", moment_text(until))).unwrap_or_default();
        let (name, of) = (Shown(name.as_bytes()), scope_text(&pin.scope));
        put!(out, "pin {name}: {versions} of {of}, since {}{until}", moment_text(pin.created))?;
    }
    for consumer in &consumers {
        let state = &consumer.state;
        let holds = match state.holding {
            _ if state.is_overtaken => "holds nothing: it was overtaken".to_owned(),
            Holding::Nothing => "holds nothing".to_owned(),
            Holding::All => "holds what comes after".to_owned(),
            Holding::HoldWriters(bytes) => format!("holds what comes after, and writers at {bytes} bytes"),
            Holding::Overtake(bytes) => format!("holds what comes after, up to {bytes} bytes"),
        };
        put!(
            out,
            "consumer {}: at version {} of {}, since {}; {holds}; {} bytes of the log lie ahead",
            Shown(consumer.name.as_bytes()),
            state.position,
            scope_text(&state.scope),
            moment_text(state.since),
            consumer.backlog_bytes
        )?;
    }
    if pins.is_empty() && consumers.is_empty() { put!(out, "none") } else { Ok(()) }
}

/// Prints how much each pin and consumer keeps that nobody else does.
pub(crate) fn why_retained(arguments: &Report, out: &mut dyn Write) -> Result<(), Failure> {
    let why = open::for_reading(&arguments.directory)?.why_retained()?;
    if arguments.format != Format::Text {
        let holders = why.holders.iter().map(|holder| {
            let alone = amount_json(holder.alone);
            let (since_micros, log_bytes) = (holder.since.as_micros(), holder.alone_log_bytes);
            let value = json!({
                "version": holder.version.0, "since_micros": since_micros, "alone": alone, "alone_log_bytes": log_bytes,
            });
            (holder.name.clone(), value)
        });
        let holders: Map<String, Value> = holders.collect();
        let (shared, reclaimable) = (amount_json(why.shared), amount_json(why.reclaimable));
        let values = json!({ "holders": holders, "shared": shared, "reclaimable": reclaimable });
        return put_values(out, arguments.format, &values);
    }
    for holder in &why.holders {
        let (name, since) = (Shown(holder.name.as_bytes()), moment_text(holder.since));
        let log = match holder.alone_log_bytes {
            0 => String::new(),
            bytes => format!(", {bytes} bytes of the log"),
        };
        put!(out, "{name}: from version {}, since {since}; alone {}{log}", holder.version, amount_text(holder.alone))?;
    }
    put!(out, "several together: {}", amount_text(why.shared))?;
    put!(out, "nobody: {}", amount_text(why.reclaimable))
}

/// Rewrites what policies and the horizon let go; or prints how much that would free: by table, or exactly.
pub(crate) fn reclaim(arguments: &Reclaim, out: &mut dyn Write) -> Result<(), Failure> {
    if !arguments.dry_run {
        let ((), before, after) = rewrite(&arguments.directory, &arguments.writing, |_store| Ok(()))?;
        if arguments.format != Format::Text {
            return put_values(out, arguments.format, &json!({ "before": before.json(), "after": after.json() }));
        }
        before.put("before", out)?;
        return after.put("after", out);
    }
    let store = open::for_reading(&arguments.directory)?;
    let before = Version(arguments.before);
    if arguments.exact {
        let freed = store.would_free_exactly(before)?;
        return match arguments.format {
            Format::Text => put!(out, "{}", amount_text(freed)),
            _ => put_values(out, arguments.format, &amount_json(freed)),
        };
    }
    let freed = store.would_free(before)?;
    if arguments.format != Format::Text {
        let tables: Map<String, Value> = freed.iter().map(|(table, amount)| (table.to_string(), amount_json(*amount))).collect();
        return put_values(out, arguments.format, &Value::Object(tables));
    }
    if freed.is_empty() {
        return put!(out, "nothing that the statistics of files show");
    }
    for (table, amount) in freed {
        put!(out, "{table}: about {}", amount_text(amount))?;
    }
    Ok(())
}

fn amount_text(amount: Amount) -> String {
    format!("{} entries with {} bytes of keys and values", amount.entries, amount.bytes)
}

fn amount_json(amount: Amount) -> Value {
    json!({ "entries": amount.entries, "bytes": amount.bytes })
}

fn consumer_json(consumer: &ConsumerInfo) -> Value {
    let state = &consumer.state;
    let holding = match state.holding {
        Holding::Nothing => "nothing",
        Holding::All => "all",
        Holding::HoldWriters(_) => "hold writers",
        Holding::Overtake(_) => "overtake",
    };
    json!({
        "position": state.position.0,
        "versions_from": state.versions_from.0,
        "of": scope_text(&state.scope),
        "holding": holding,
        "limit_bytes": state.holding.limit_bytes(),
        "is_overtaken": state.is_overtaken,
        "since_micros": state.since.as_micros(),
        "backlog_bytes": consumer.backlog_bytes,
    })
}

pub(crate) fn scope_text(scope: &Scope) -> String {
    match scope {
        Scope::All => "all tables".to_owned(),
        Scope::Table(table) => table.to_string(),
        Scope::Range(table, range) => {
            let start = match &range.start {
                Bound::Included(key) => format!(" from {}", Shown(key)),
                Bound::Excluded(key) => format!(" after {}", Shown(key)),
                Bound::Unbounded => String::new(),
            };
            let end = match &range.end {
                Bound::Included(key) => format!(" up to {}", Shown(key)),
                Bound::Excluded(key) => format!(" below {}", Shown(key)),
                Bound::Unbounded => String::new(),
            };
            format!("the keys of {table}{start}{end}")
        }
    }
}

pub(crate) fn moment_text(moment: thermocline::Moment) -> String {
    let since_epoch = Duration::from_micros(moment.as_micros());
    if since_epoch > YEAR_10_000 {
        return "the year 10000 or later".to_owned();
    }
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since_epoch).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_as_far_as_dates_go() {
        assert_eq!(moment_text(thermocline::Moment::from_micros(1_700_000_000_000_000)), "2023-11-14T22:13:20Z");
        assert_eq!(moment_text(thermocline::Moment::from_micros(u64::MAX)), "the year 10000 or later");
    }

    #[test]
    fn ranges_are_named_by_their_bounds() {
        let text = |range| scope_text(&Scope::Range(thermocline::Table::Multi, range));
        assert_eq!(text(KeyRange::new("a".."b")), "the keys of multi from a below b");
        assert_eq!(text(KeyRange::new(..="b\n")), "the keys of multi up to b\\n");
    }

    #[test]
    fn policies_are_printed_as_they_are_read() {
        for text in ["all", "latest", "newest:3", "since:17", "age:12h", "ladder:1day,30days/1h", "ladder:2h/1m"] {
            assert_eq!(policy_text(&parse_policy(text).unwrap()), text);
        }
        for text in ["", "some", "newest:", "newest:0", "since:x", "age:12", "age:soon", "ladder:", "ladder:1h,1h", "latest:1"] {
            assert!(parse_policy(text).is_err(), "{text}");
        }
        assert!(parse_policy("newest:x").unwrap_err().contains("`x`"));
    }
}
