//! Many point reads at once: every step for all keys of a group before the next step, so that their waits for memory overlap.

use thermocline_tier::{KeyRef, Lookup};

use crate::record::{Found, Record, Sight, find};
use crate::state::{State, Table, View};

/// Keys that go through the steps together.
const GROUP: usize = 32;

impl State {
    /// One answer for each key, in their order.
    pub(crate) fn get_many(&self, keys: &[KeyRef<'_>], view: View) -> Vec<Lookup> {
        let mut answers = Vec::with_capacity(keys.len());
        for group in keys.chunks(GROUP) {
            let found = self.find_group(group, view);
            answers.extend(found.iter().take(group.len()).map(|found| self.lookup(*found)));
        }
        answers
    }

    fn find_group(&self, keys: &[KeyRef<'_>], view: View) -> [Option<Found>; GROUP] {
        let mut tables: [Option<&Table>; GROUP] = [None; GROUP];
        let mut tags = [0; GROUP];
        for (index, key) in keys.iter().enumerate() {
            tables[index] = match index.checked_sub(1) {
                Some(before) if keys[before].table == key.table => tables[before],
                _ => self.table(key.table),
            };
            tags[index] = self.tag(key.prefix);
            if let Some(table) = tables[index] {
                table.index.prefetch(tags[index]);
            }
        }
        for (index, tag) in tags.iter().enumerate().take(keys.len()) {
            if let Some(slot) = tables[index].and_then(|table| table.index.candidate(*tag)) {
                self.region.prefetch(slot.record);
                self.values.prefetch(slot.value);
                if view.at != view.published {
                    self.region.prefetch(slot.history);
                }
            }
        }
        let mut sights = [Sight::Nothing; GROUP];
        for (index, sight) in sights.iter_mut().enumerate().take(keys.len()) {
            let Some(table) = tables[index] else { continue };
            let Some(record) = table.index.find(&self.region, tags[index], keys[index].prefix, |_| {}) else { continue };
            *sight = Record::new(&self.region, record).look(&self.values, view.at, view.published);
        }
        let mut found = [None; GROUP];
        for (found, sight) in found.iter_mut().zip(&sights).take(keys.len()) {
            *found = match sight {
                Sight::Nothing => None,
                Sight::Newest(newest) => Some(*newest),
                Sight::History(block) => find(&self.region, *block, view.at),
            };
            if let (Sight::History(_), Some(found)) = (sight, &found) {
                self.values.prefetch(found.value);
            }
        }
        found
    }
}
