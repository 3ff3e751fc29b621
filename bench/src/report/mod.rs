// SPDX-License-Identifier: Apache-2.0
//! A run for people: [`matrix`] says what is in which cell, the others how it looks.

pub mod agreement;
pub mod detail;
pub mod html;
pub mod markdown;
pub mod matrix;
pub mod plot;
pub mod table;
