// SPDX-License-Identifier: Apache-2.0
//! The nouns, pure and always valid.

pub mod addr;
