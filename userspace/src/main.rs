// SPDX-License-Identifier: Apache-2.0
//! The one binary: agent and command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    pintle::cli::main()
}
