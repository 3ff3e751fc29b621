// SPDX-License-Identifier: Apache-2.0
//! The nouns, pure and always valid.
//!
//! What reaches these types has been checked at the edge (`source::convert`): every port is in
//! range, every address parses and belongs to its family. What did not pass is a [`rejection`].

pub mod addr;
pub mod cidr;
pub mod cluster;
pub mod event;
pub mod intern;
pub mod ip;
pub mod name;
pub mod object;
pub mod policy;
pub mod rejection;
pub mod service;
pub mod slice;
pub mod time;
