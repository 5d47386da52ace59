//! `sfu.now` and what is left of `os`: time, in UTC, from the engine's clock.

use std::fmt::Write;

use mlua::{Lua, Table, Value};

use super::args::arg;
use super::{Functions, HostResult, refused};

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Bytes of a format of `os.date`.
const MAX_FORMAT: usize = 256;
/// Seconds since 1970 of the years that the calendar here knows (-9999 to 9999).
const MAX_TIME: f64 = 253_402_300_799.0;

pub(super) fn register(functions: &mut Functions) {
    functions.add("sfu.now", |_, host, ()| Ok(host.room.unix.get().as_secs_f64()));
    functions.add("os.clock", |_, host, ()| {
        Ok(host.room.now.get().saturating_duration_since(host.room.opened).as_secs_f64())
    });
    functions.add("os.time", |_, host, date: Value| match &date {
        Value::Nil => Ok(host.room.unix.get().as_secs() as f64),
        Value::Table(date) => time_of(date),
        other => Err(arg("os.time", "date", other).bad("table expected")),
    });
    functions.add("os.date", |lua, host, (format, time): (Value, Value)| {
        let format = arg("os.date", "format", &format);
        let format = if format.absent() { "%c".to_owned() } else { format.text(MAX_FORMAT)? };
        let time = arg("os.date", "time", &time);
        let time = if time.absent() { host.room.unix.get().as_secs_f64() } else { time.number(-MAX_TIME..=MAX_TIME)? };
        let date = Date::at(time.floor() as i64);
        match format.trim_start_matches('!') {
            "*t" => date.table(lua).map(Value::Table).map_err(refused),
            format => lua.create_string(date.format(format)?).map(Value::String).map_err(refused),
        }
    });
}

/// Seconds since 1970 of a table as `os.date("*t")` makes it.
fn time_of(date: &Table) -> HostResult<f64> {
    let field = |name: &'static str, default: Option<i64>| -> HostResult<i64> {
        let value: Value = date.raw_get(name).map_err(refused)?;
        match (&value, default) {
            (Value::Nil, Some(default)) => Ok(default),
            (Value::Nil, None) => Err(format!("field '{name}' missing in date table")),
            _ => Ok(arg("os.time", name, &value).number(-1e9..=1e9)?.floor() as i64),
        }
    };
    let year = arg("os.time", "year", &Value::Integer(field("year", None)?)).number(-9999.0..=9999.0)? as i64;
    let month = field("month", None)? - 1;
    let days = days_from_civil(year + month.div_euclid(12), month.rem_euclid(12) + 1, 1) + field("day", None)? - 1;
    let seconds = field("hour", Some(12))? * 3600 + field("min", Some(0))? * 60 + field("sec", Some(0))?;
    Ok((days * 86_400 + seconds) as f64)
}

/// A moment in the proleptic Gregorian calendar, UTC.
struct Date {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    min: i64,
    sec: i64,
    /// 0 is Sunday.
    weekday: i64,
    /// 1 is the first of January.
    yearday: i64,
}

impl Date {
    fn at(unix: i64) -> Self {
        let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        Self {
            year,
            month,
            day,
            hour: second / 3600,
            min: second / 60 % 60,
            sec: second % 60,
            weekday: (days + 4).rem_euclid(7),
            yearday: days - days_from_civil(year, 1, 1) + 1,
        }
    }

    fn table(&self, lua: &Lua) -> mlua::Result<Table> {
        let table = lua.create_table_with_capacity(0, 9)?;
        for (name, value) in [
            ("year", self.year),
            ("month", self.month),
            ("day", self.day),
            ("hour", self.hour),
            ("min", self.min),
            ("sec", self.sec),
            ("wday", self.weekday + 1),
            ("yday", self.yearday),
        ] {
            table.raw_set(name, value)?;
        }
        table.raw_set("isdst", false)?;
        Ok(table)
    }

    fn format(&self, format: &str) -> HostResult<String> {
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            match c {
                '%' => self.conversion(chars.next(), &mut out)?,
                c => out.push(c),
            }
        }
        Ok(out)
    }

    fn conversion(&self, letter: Option<char>, out: &mut String) -> HostResult<()> {
        let (day, month) = (DAYS[self.weekday as usize], MONTHS[self.month as usize - 1]);
        let hour12 = (self.hour + 11) % 12 + 1;
        let written = match letter {
            Some('a') => write!(out, "{}", &day[..3]),
            Some('A') => write!(out, "{day}"),
            Some('b') => write!(out, "{}", &month[..3]),
            Some('B') => write!(out, "{month}"),
            Some('d') => write!(out, "{:02}", self.day),
            Some('H') => write!(out, "{:02}", self.hour),
            Some('I') => write!(out, "{hour12:02}"),
            Some('j') => write!(out, "{:03}", self.yearday),
            Some('m') => write!(out, "{:02}", self.month),
            Some('M') => write!(out, "{:02}", self.min),
            Some('p') => write!(out, "{}", if self.hour < 12 { "AM" } else { "PM" }),
            Some('S') => write!(out, "{:02}", self.sec),
            Some('w') => write!(out, "{}", self.weekday),
            Some('y') => write!(out, "{:02}", self.year.rem_euclid(100)),
            Some('Y') => write!(out, "{}", self.year),
            Some('z') => write!(out, "+0000"),
            Some('Z') => write!(out, "UTC"),
            Some('%') => write!(out, "%"),
            Some('c') => return self.format("%a %b %d %H:%M:%S %Y").map(|text| out.push_str(&text)),
            Some('x' | 'D') => return self.format("%m/%d/%y").map(|text| out.push_str(&text)),
            Some('X' | 'T') => return self.format("%H:%M:%S").map(|text| out.push_str(&text)),
            Some('F') => return self.format("%Y-%m-%d").map(|text| out.push_str(&text)),
            other => {
                let other = other.map_or_else(String::new, String::from);
                return Err(format!("bad argument 'format' to 'os.date' (unknown conversion '%{other}')"));
            }
        };
        written.map_err(|error| error.to_string())
    }
}

/// Days since 1970 of a date: years start in March, so that the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, expected) in [
            (0, "1970-01-01 00:00:00 4 001"),
            (951_782_399, "2000-02-28 23:59:59 1 059"),
            (951_782_400, "2000-02-29 00:00:00 2 060"),
            (1_786_000_000, "2026-08-06 07:06:40 4 218"),
            (-1, "1969-12-31 23:59:59 3 365"),
        ] {
            assert_eq!(Date::at(unix).format("%F %T %w %j").unwrap(), expected, "{unix}");
        }
    }

    #[test]
    fn an_unknown_conversion_is_named() {
        assert!(Date::at(0).format("%Q").unwrap_err().contains("'%Q'"));
        assert!(Date::at(0).format("%").unwrap_err().contains("'%'"));
    }
}
