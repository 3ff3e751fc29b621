// SPDX-License-Identifier: Apache-2.0
//! The API server of the tests, held against what kube-apiserver does, over plain sockets; and in
//! [`source`] what the agent's API source makes of it; in [`real`] both beside a real kube-apiserver,
//! where there is one. No privileges.

mod client;
mod events;
mod expiry;
mod faults;
mod garbage;
mod lists;
mod objects;
mod outages;
mod real;
mod refusals;
mod requests;
mod scale;
mod selectors;
mod source;
mod streaming_lists;
mod watches;
