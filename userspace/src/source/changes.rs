// SPDX-License-Identifier: Apache-2.0
//! What is to be told of objects that were touched: the difference to what was told before.
//!
//! Whatever happened in between, an object that is as it was is not mentioned.

use std::collections::BTreeMap;

use super::event::{Batch, Event};
use crate::model::{name::ObjectRef, object::Object, rejection::RejectReason};

/// What is in force for an object and what is wrong with it.
pub(super) type Told = (Option<Object>, Vec<RejectReason>);

/// Objects that were touched since the last batch, with what was told of them before.
#[derive(Debug, Default)]
pub(super) struct Changes {
    touched: BTreeMap<ObjectRef, Told>,
}

impl Changes {
    /// Nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// An object is about to change; `told` is how it is until then.
    pub fn touch(&mut self, object: &ObjectRef, told: impl FnOnce() -> Told) {
        if !self.touched.contains_key(object) {
            self.touched.insert(object.clone(), told());
        }
    }

    /// The difference between how the touched objects were and how they are `now`, ordered by object.
    pub fn events(&mut self, now: impl Fn(&ObjectRef) -> Told) -> Batch {
        let mut events = Batch::new();
        for (object, (old_value, old_reasons)) in std::mem::take(&mut self.touched) {
            let (value, reasons) = now(&object);
            if value != old_value {
                events.push(match value {
                    Some(value) => Event::Apply(value),
                    None => Event::Delete(object.clone()),
                });
            }
            if reasons != old_reasons {
                events.push(Event::Rejected(object, reasons.into()));
            }
        }
        events
    }
}
