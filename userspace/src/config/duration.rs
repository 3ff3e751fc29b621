// SPDX-License-Identifier: Apache-2.0
//! Durations as Go writes them, `1h30m` or `1.5s`, because Kubernetes' configuration has them so.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A duration, which may be negative until it is validated, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Units, those first that are the beginning of others.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", MINUTE),
    ("h", HOUR),
];

impl GoDuration {
    /// A duration of whole seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds * SECOND)
    }

    /// The same for whom negative durations do not exist; those become zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("'{text}' is not a duration; write it like 30s, 5m or 1h30m");
        let (sign, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (-1, &text[1..]),
            Some(b'+') => (1, &text[1..]),
            _ => (1, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        let mut total = 0_i64;
        loop {
            let (nanoseconds, left) = element(rest).ok_or_else(refuse)?;
            total = total.checked_add(nanoseconds).ok_or_else(refuse)?;
            rest = left;
            if rest.is_empty() {
                return Ok(Self(sign * total));
            }
        }
    }
}

/// Takes one number with its unit off the front.
fn element(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, rest) = text.split_at(end);
    // `m` would take the beginning of `ms`.
    let (unit, nanoseconds) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut scale = *nanoseconds;
    let mut total = whole.checked_mul(*nanoseconds)?;
    for digit in fraction.bytes() {
        scale /= 10;
        total = total.checked_add(i64::from(char::from(digit).to_digit(10)?) * scale)?;
    }
    Some((total, &rest[unit.len()..]))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let total = self.0.unsigned_abs();
        let (second, minute, hour) = (SECOND as u64, MINUTE as u64, HOUR as u64);
        if total == 0 {
            return f.write_str("0s");
        }
        if total < second {
            let (unit, name) = match total {
                0..1_000 => (1, "ns"),
                1_000..1_000_000 => (1_000, "µs"),
                _ => (1_000_000, "ms"),
            };
            return write!(f, "{sign}{}{name}", total as f64 / unit as f64);
        }
        f.write_str(sign)?;
        if total >= hour {
            write!(f, "{}h", total / hour)?;
        }
        if total >= minute {
            write!(f, "{}m", total % hour / minute)?;
        }
        let seconds = total % minute;
        write!(f, "{}", seconds / second)?;
        match seconds % second {
            0 => {}
            rest => write!(f, ".{}", format!("{rest:09}").trim_end_matches('0'))?,
        }
        f.write_str("s")
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30 * SECOND),
            ("1m30s", 90 * SECOND),
            ("24h0m0s", 24 * HOUR),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.h", HOUR),
            ("100ms", 100_000_000),
            ("1m5ms", MINUTE + 5_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("7ns", 7),
            ("-1h", -HOUR),
            ("+2s", 2 * SECOND),
        ] {
            assert_eq!(text.parse(), Ok(GoDuration(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in ["", "30", "s", ".s", "1x", "1d", "1s2", "1 s", "1.2.3s", "--1s", "9999999999h"]
        {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for text in
            ["0s", "30s", "1m30s", "24h0m0s", "1.5s", "100ms", "1.5ms", "3µs", "7ns", "-1m0s"]
        {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), text);
        }
    }
}
