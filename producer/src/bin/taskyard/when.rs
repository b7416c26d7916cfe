//! Durations and instants as people write and read them.

use std::time::Duration;
use taskyard_model::Timestamp;

const DAY_MS: u64 = 86_400_000;
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", DAY_MS)];

/// Reads `250ms`, `30s`, `5m`, `2h`, `7d`, `1h30m`; a number alone is milliseconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 250ms, 30s, 5m, 2h, 7d or 1h30m");
    if let Ok(ms) = text.parse() {
        return Ok(Duration::from_millis(ms));
    }
    let mut rest = text.trim();
    let mut sum: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let &(_, ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(ms)).ok_or_else(wrong)?;
        sum = sum.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(Duration::from_millis(sum))
}

/// Reads a duration between two looks at what dispatchers write once a second.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < Duration::from_millis(100) => {
            Err("the shortest interval is 100ms".to_owned())
        }
        interval => Ok(interval),
    }
}

/// Reads `+5m` (from now), `2024-02-29T12:00:00Z` (or with `+02:00`), or milliseconds since 1970.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    if let Some(after) = text.strip_prefix('+') {
        return Ok(taskyard_common::now() + duration(after)?);
    }
    match text.parse() {
        Ok(ms) => Ok(Timestamp::from_ms(ms)),
        Err(_) => rfc3339(text).ok_or_else(|| {
            format!(
                "{text:?} is no instant: write +5m (from now), 2024-02-29T12:00:00Z, or \
                 milliseconds since 1970"
            )
        }),
    }
}

/// Reads `1h` (ago), or an instant as [`instant`] does (a number alone is milliseconds ago).
pub(crate) fn since(text: &str) -> Result<Timestamp, String> {
    match duration(text) {
        Ok(ago) => Ok(taskyard_common::now() - ago),
        Err(_) => instant(text).map_err(|_| {
            format!(
                "{text:?} is neither a duration (30s, 2h, 7d) nor an instant (2024-02-29T12:00:00Z)"
            )
        }),
    }
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let fields = |text: &str, by: char| -> Option<[i64; 3]> {
        let mut parts = text.split(by).map(|part| part.parse::<u32>().ok().map(i64::from));
        let fields = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(fields)
    };
    let [year, month, day] = fields(date, '-')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = fields(clock, ':')?;
    let is_clock = hour < 24 && minute < 60 && second < 61;
    let is_date = (1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day);
    if !is_clock || !is_date || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ms: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset(zone)?;
    u64::try_from((minutes * 60 + second) * 1_000 + ms).ok().map(Timestamp::from_ms)
}

/// Minutes east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, clock) = zone.split_at_checked(1)?;
    let (hours, minutes) = clock.split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minutes = (hours < 24 && minutes < 60).then_some(i64::from(hours * 60 + minutes))?;
    Some(if sign == "-" { -minutes } else { minutes })
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Howard Hinnant, "chrono-compatible low-level date algorithms": years begin in March, so that the
/// leap day is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `2024-02-29 12:00:00.000Z`: the inverse of the above, by the same source.
pub(crate) fn utc(at: Timestamp) -> String {
    let ms = at.as_ms();
    let days = i64::try_from(ms / DAY_MS).unwrap_or(0) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (s, ms) = (ms / 1_000 % 86_400, ms % 1_000);
    let (hour, minute, second) = (s / 3_600, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// `12 s ago`, `in 5 min`, `now`.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    match (now.since(at), at.since(now)) {
        (ago, _) if ago >= Duration::from_secs(1) => format!("{} ago", rough(ago)),
        (_, ahead) if ahead >= Duration::from_secs(1) => format!("in {}", rough(ahead)),
        _ => "now".to_owned(),
    }
}

/// A duration in its largest fitting unit: `340 ms`, `12 s`, `5 min`, `3 h`, `9 d`.
pub(crate) fn rough(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / DAY_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let ms = |text: &str| duration(text).map(|d| d.as_millis());
        assert_eq!(ms("1500"), Ok(1_500));
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("30s"), Ok(30_000));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms("7d"), Ok(604_800_000));
        for text in ["", "s", "-1s", "1.5s", "5 s", "1y", "5s3", "99999999999999999999d"] {
            assert!(ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn intervals_are_not_too_short() {
        assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
        assert!(interval("10ms").unwrap_err().contains("100ms"));
    }

    #[test]
    fn instants_are_read() {
        let ms = |text: &str| instant(text).map(Timestamp::as_ms);
        assert_eq!(ms("1700000000000"), Ok(1_700_000_000_000));
        assert_eq!(ms("2024-02-29T12:00:00Z"), Ok(1_709_208_000_000));
        assert_eq!(ms("2024-02-29T14:00:00.5+02:00"), Ok(1_709_208_000_500));
        assert_eq!(ms("2024-02-29 07:00:00-05:00"), Ok(1_709_208_000_000));
        assert_eq!(ms("1970-01-01T00:00:00Z"), Ok(0));
        let soon = instant("+1h").unwrap().since(taskyard_common::now());
        assert!(soon > Duration::from_secs(3_590) && soon <= Duration::from_secs(3_600));
        for text in [
            "tomorrow",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T25:00:00Z",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "+soon",
            "2024-01-01T00:00:00+99:00",
            "",
        ] {
            assert!(ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_past_is_a_duration_ago_or_an_instant() {
        let ago = taskyard_common::now().since(since("2h").unwrap());
        assert!((7_200..7_260).contains(&ago.as_secs()), "{ago:?}");
        assert_eq!(since("2024-02-29T12:00:00Z").map(Timestamp::as_ms), Ok(1_709_208_000_000));
        assert!(since("yesterday").unwrap_err().contains("2h"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for ms in [0, 951_782_399_999, 1_709_208_000_123, 4_102_444_800_000] {
            let text = utc(Timestamp::from_ms(ms));
            assert_eq!(instant(&text), Ok(Timestamp::from_ms(ms)), "{text}");
        }
        assert_eq!(utc(Timestamp::from_ms(1_709_208_000_123)), "2024-02-29 12:00:00.123Z");
    }

    #[test]
    fn distances_are_said_roughly() {
        let now = Timestamp::from_ms(1_000_000_000);
        let at = |ms: i64| relative(Timestamp::from_ms((1_000_000_000 + ms) as u64), now);
        assert_eq!(at(-500), "now");
        assert_eq!(at(-12_345), "12 s ago");
        assert_eq!(at(-3_456), "3.4 s ago");
        assert_eq!(at(300_000), "in 5 min");
        assert_eq!(at(-100_000_000), "27 h ago");
        assert_eq!(at(-864_000_000), "10 d ago");
    }
}
