// SPDX-License-Identifier: Apache-2.0
//! The closing table of a test run.

use super::Tier;
use std::process::ExitCode;

/// How a tier ended.
pub enum Outcome {
    /// It ran and all is well.
    Passed,
    /// It failed, or was asked for by name and cannot run.
    Failed(String),
    /// Not asked for by name, and this machine cannot run it.
    CannotRun(String),
}

/// One row of the table.
pub struct Line {
    /// Which tier.
    pub tier: Tier,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
}

/// Prints the table; the last line is `N passed, M failed`.
pub fn print(lines: &[Line]) {
    println!("\n{:<10} {:<11} {:>8}", "TIER", "RESULT", "SECONDS");
    for Line { tier, outcome, seconds } in lines {
        let (word, reason) = match outcome {
            Outcome::Passed => ("passed", ""),
            Outcome::Failed(reason) => ("failed", reason.as_str()),
            Outcome::CannotRun(reason) => ("cannot run", reason.as_str()),
        };
        let reason = reason.lines().next().unwrap_or_default();
        let row = format!("{:<10} {word:<11} {seconds:>8.1}  {reason}", tier.to_string());
        println!("{}", row.trim_end());
    }
    println!("{}", closing(lines));
}

fn closing(lines: &[Line]) -> String {
    let count =
        |wanted: fn(&Outcome) -> bool| lines.iter().filter(|line| wanted(&line.outcome)).count();
    let passed = count(|outcome| matches!(outcome, Outcome::Passed));
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    format!("{passed} passed, {failed} failed")
}

/// Zero when nothing failed.
pub fn exit_code(lines: &[Line]) -> ExitCode {
    match lines.iter().any(|line| matches!(line.outcome, Outcome::Failed(_))) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_that_cannot_run_is_neither_passed_nor_failed() {
        let line = |outcome| Line { tier: Tier::Unit, outcome, seconds: 1.0 };
        let mut lines = vec![line(Outcome::Passed), line(Outcome::CannotRun("no qemu".into()))];
        assert_eq!(closing(&lines), "1 passed, 0 failed");
        assert_eq!(exit_code(&lines), ExitCode::SUCCESS);
        lines.push(line(Outcome::Failed("broken".into())));
        assert_eq!(closing(&lines), "1 passed, 1 failed");
        assert_eq!(exit_code(&lines), ExitCode::FAILURE);
    }
}
