// SPDX-License-Identifier: Apache-2.0
//! The API server of the tests, held against what kube-apiserver does, over plain sockets; and in
//! [`source`] what the agent's API source makes of it. No privileges.

mod client;
mod events;
mod expiry;
mod faults;
mod garbage;
mod lists;
mod objects;
mod outages;
mod refusals;
mod requests;
mod scale;
mod selectors;
mod source;
mod streaming_lists;
mod watches;
