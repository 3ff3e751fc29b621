// SPDX-License-Identifier: Apache-2.0
//! Numbers as people read them. Pure.

/// `1,204`.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `180`, `1.1M`: bytes in powers of 1024.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    let mut unit = 0;
    // Tenths, so that no floating point is involved.
    let mut tenths = u128::from(value) * 10;
    while tenths >= 10_240 {
        tenths /= 1024;
        unit += 1;
    }
    match (unit, tenths) {
        (0, _) => value.to_string(),
        (_, tenths) if tenths < 100 => format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit]),
        (_, tenths) => format!("{}{}", tenths / 10, UNITS[unit]),
    }
}

/// `2s`, `3d4h`: the two largest units.
pub fn seconds(value: u64) -> String {
    let parts = [
        (value / 86_400, 'd'),
        (value / 3600 % 24, 'h'),
        (value / 60 % 60, 'm'),
        (value % 60, 's'),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2).filter(|(count, _)| *count > 0);
    let text: String = shown.map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0s".into() } else { text }
}

/// A share in whole percent, rounded down; `<1%` for a little, so that 0 means nothing.
pub fn percent(part: u64, whole: u64) -> String {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    if part > 0 && percent == 0 { "<1%".into() } else { format!("{percent}%") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let check = |value, expected: &str| assert_eq!(number(value), expected);
        check(0, "0");
        check(999, "999");
        check(1_204, "1,204");
        check(1_234_567, "1,234,567");
    }

    #[test]
    fn bytes_have_two_or_three_digits() {
        let check = |value, expected: &str| assert_eq!(bytes(value), expected);
        check(180, "180");
        check(1023, "1023");
        check(1024, "1.0K");
        check(1_153_434, "1.1M");
        check(15 << 20, "15M");
        check(u64::MAX, "15E");
    }

    #[test]
    fn durations_have_two_units() {
        let check = |value, expected: &str| assert_eq!(seconds(value), expected);
        check(0, "0s");
        check(2, "2s");
        check(600, "10m");
        check(3 * 86_400 + 4 * 3600 + 59, "3d4h");
        check(3 * 86_400 + 59, "3d");
    }

    #[test]
    fn a_little_is_not_nothing() {
        assert_eq!(percent(1, 1000), "<1%");
        assert_eq!(percent(0, 0), "0%");
        assert_eq!(percent(70, 1000), "7%");
    }
}
