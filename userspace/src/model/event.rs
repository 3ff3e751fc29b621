// SPDX-License-Identifier: Apache-2.0
//! What a source tells: objects that changed, objects that went, objects that were not accepted.

use std::sync::Arc;

use super::{name::ObjectRef, object::Object, rejection::RejectReason};

/// A change of what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The object is new or differs from what was told before.
    Apply(Object),
    /// The object is gone.
    Delete(ObjectRef),
    /// What is wrong with an object from now on; replaces what was said about it before, and an
    /// empty list says that nothing is wrong any more.
    ///
    /// Independent of `Apply`: an object with one bad port is applied without that port.
    Rejected(ObjectRef, Arc<[RejectReason]>),
    /// Everything that existed at the start has been told. Comes once.
    Synced,
}

/// Changes that arrived together; the order within a batch carries no meaning beyond per object.
pub type Batch = Vec<Event>;
