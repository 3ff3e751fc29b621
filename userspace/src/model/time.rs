// SPDX-License-Identifier: Apache-2.0
//! Wall times as Kubernetes writes them.

use std::time::{SystemTime, UNIX_EPOCH};

/// A wall time, given in seconds since 1970, as RFC 3339 in UTC.
pub fn rfc3339(unix: i64) -> String {
    format!("{}Z", date_and_time(unix))
}

/// A wall time as RFC 3339 in UTC, with as many nanoseconds as it has, as Go's JSON has it. `None`
/// is Go's zero time.
pub fn rfc3339_nanos(time: Option<SystemTime>) -> String {
    let Some(time) = time else { return "0001-01-01T00:00:00Z".into() };
    // Nobody's clock is before 1970 for long.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = format!("{:09}", since.subsec_nanos());
    match fraction.trim_end_matches('0') {
        "" => rfc3339(since.as_secs() as i64),
        digits => format!("{}.{digits}Z", date_and_time(since.as_secs() as i64)),
    }
}

fn date_and_time(unix: i64) -> String {
    let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    // Years begin in March here, so that the leap day is a year's last; day 0 is 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn wall_times_know_leap_years() {
        let check = |unix, expected: &str| assert_eq!(rfc3339(unix), expected);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_700_000_000, "2023-11-14T22:13:20Z");
        check(1_735_689_599, "2024-12-31T23:59:59Z");
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        let check = |nanos, expected: &str| {
            let time = UNIX_EPOCH + Duration::from_nanos(nanos);
            assert_eq!(rfc3339_nanos(Some(time)), expected);
        };
        check(0, "1970-01-01T00:00:00Z");
        check(1_709_210_096_000_000_000, "2024-02-29T12:34:56Z");
        check(1_709_210_096_120_000_000, "2024-02-29T12:34:56.12Z");
        check(1_709_210_096_000_000_001, "2024-02-29T12:34:56.000000001Z");
        assert_eq!(rfc3339_nanos(None), "0001-01-01T00:00:00Z");
    }
}
