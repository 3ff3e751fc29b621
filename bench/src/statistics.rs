// SPDX-License-Identifier: Apache-2.0
//! From measurements of several builds to a ratio with an interval.

use serde::{Deserialize, Serialize};

/// A ratio and its 95 % interval, from the spread between builds of the same worlds: epochs of one
/// build share its memory layout, so their spread says too little.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The geometric mean.
    pub ratio: f64,
    /// Both ends of the interval; none after one build.
    pub interval95: Option<[f64; 2]>,
}

impl Estimate {
    /// From the ratios of builds, at least one.
    pub fn of(ratios: &[f64]) -> Self {
        let n = ratios.len() as f64;
        let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
        let mean = logs.iter().sum::<f64>() / n;
        if ratios.len() < 2 {
            return Self { ratio: mean.exp(), interval95: None };
        }
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let half = student_t(ratios.len() - 1) * (variance / n).sqrt();
        let interval95 = Some([(mean - half).exp(), (mean + half).exp()]);
        Self { ratio: mean.exp(), interval95 }
    }

    /// Of the quotients of the same builds.
    pub fn between(ours: &[f64], theirs: &[f64]) -> Self {
        let quotients: Vec<f64> =
            ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        Self::of(&quotients)
    }

    /// What it says of two that are compared.
    pub fn verdict(&self) -> Verdict {
        match self.interval95 {
            None => Verdict::Unknown,
            Some([low, _]) if low > 1.0 => Verdict::Slower,
            Some([_, high]) if high < 1.0 => Verdict::Faster,
            Some(_) => Verdict::NoDifference,
        }
    }
}

/// What an interval says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All of it is below one.
    Faster,
    /// One is inside.
    NoDifference,
    /// All of it is above one.
    Slower,
    /// There is none, after one build.
    Unknown,
}

impl Verdict {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::NoDifference => "no difference",
            Self::Slower => "slower",
            Self::Unknown => "one build",
        }
    }
}

/// Student's t of a two-sided 95 % interval.
fn student_t(degrees_of_freedom: usize) -> f64 {
    const T: [f64; 10] = [12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    T.get(degrees_of_freedom - 1).copied().unwrap_or(2.228)
}

/// The median; of an empty slice, zero. The order of the values changes.
pub fn median(values: &mut [u64]) -> f64 {
    quantile(values, 0.5)
}

/// The value that a part of all values is below; of an empty slice, zero. Their order changes.
pub fn quantile(values: &mut [u64], part: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let index = ((values.len() as f64 * part) as usize).min(values.len() - 1);
    *values.select_nth_unstable(index).1 as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_builds_have_no_spread() {
        let Estimate { ratio, interval95 } = Estimate::of(&[1.1, 1.1, 1.1]);
        let [low, high] = interval95.unwrap();
        assert!((ratio - 1.1).abs() < 1e-9 && (high - low).abs() < 1e-9, "{low} to {high}");
    }

    /// By hand: logs 0, 0.1, 0.2; mean 0.1, deviation 0.1, t 4.303, half-width 0.2484.
    #[test]
    fn three_builds_have_the_interval_of_student() {
        let ratios = [0.0_f64, 0.1, 0.2].map(f64::exp);
        let [low, high] = Estimate::of(&ratios).interval95.unwrap().map(f64::ln);
        assert!((low + 0.1484).abs() < 1e-3 && (high - 0.3484).abs() < 1e-3, "{low} to {high}");
    }

    #[test]
    fn one_inside_the_interval_is_no_difference() {
        assert_eq!(Estimate::of(&[0.9, 1.1, 1.0]).verdict(), Verdict::NoDifference);
        assert_eq!(Estimate::of(&[0.90, 0.91, 0.92]).verdict(), Verdict::Faster);
        assert_eq!(Estimate::of(&[1.3, 1.31, 1.32]).verdict(), Verdict::Slower);
        assert_eq!(Estimate::of(&[1.3]).verdict(), Verdict::Unknown);
    }

    #[test]
    fn what_all_builds_share_cancels_out() {
        let estimate = Estimate::between(&[1.1, 2.2, 4.4], &[1.0, 2.0, 4.0]);
        assert!((estimate.ratio - 1.1).abs() < 1e-9);
        assert_eq!(estimate.verdict(), Verdict::Slower);
    }

    #[test]
    fn the_median_ignores_outliers() {
        assert_eq!(median(&mut [5, 1_000_000, 4, 6, 5]), 5.0);
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(quantile(&mut [1, 2, 3, 4], 0.99), 4.0);
    }
}
