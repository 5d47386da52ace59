//! A report for the terminal.

use super::limited::COLUMNS;
use super::{Cost, LimitReport, Report, Times};

/// The report as lines of name and value, and what subscribers behind links saw as a table below them.
pub fn table(report: &Report) -> String {
    let rows = rows(report);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n"));
    lines.chain(limited(&report.limits)).collect()
}

fn limited(limits: &[LimitReport]) -> Vec<String> {
    let head = COLUMNS.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(limits.iter().map(LimitReport::cells)).collect();
    if rows.len() == 1 {
        return Vec::new();
    }
    let widths: [usize; COLUMNS.len()] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let cell = |(text, width): (&String, usize)| format!("{text:width$}");
    let line = |row: &[String; COLUMNS.len()]| row.iter().zip(widths).map(cell).collect::<Vec<_>>().join("  ");
    let lines = rows.iter().map(|row| format!("{}\n", line(row).trim_end()));
    std::iter::once("\n".into()).chain(lines).collect()
}

/// Names and values, for people.
pub(super) fn rows(report: &Report) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row("scenario", format!("{} at {}", report.scenario, report.target));
    row("clients", format!("{} of {} connected, {} streams", report.connected, report.clients, report.streams));
    row("measured", format!("{:.1} s{}", report.seconds, if report.cut_short { ", then cut short" } else { "" }));
    row("packets in", format!("{:.0}/s ({})", report.packets_in_per_s, report.packets_in));
    let megabits = report.bits_out_per_s / 1e6;
    row("packets out", format!("{:.0}/s ({}), {megabits:.1} Mbit/s", report.packets_out_per_s, report.packets_out));
    row("lost", format!("{} ({:.4} %), {} left out by the server", report.lost, report.loss_percent, report.left_out));
    row("order", format!("{} reordered, {} repaired, {} dropped", report.reordered, report.repaired, report.dropped));
    row("latency", times(&report.latency));
    row("longest gap", format!("{:.1} ms between two packets of a stream", report.longest_gap_ms));
    if report.resume.count > 0 {
        row("resumed", format!("{} clients, {}", report.resume.count, times(&report.resume)));
    }
    if report.moves.count > 0 {
        row("moved", format!("{} times, {}", report.moves.count, times(&report.moves)));
    }
    row("time to join", times(&report.join));
    row("first key frame", times(&report.first_picture));
    if let Some(cost) = &report.server {
        row("server", self::cost(cost, "shards"));
    }
    if let Some(cost) = &report.loadtest {
        row("loadtest", self::cost(cost, "engines"));
    }
    if report.send_refused > 0 {
        row("not sent", format!("{} datagrams", report.send_refused));
    }
    if report.overrun > 0 {
        row("not the server's", format!("{} datagrams lost in this program's full receive buffer", report.overrun));
    }
    for (reason, count) in &report.failures {
        row("failed", format!("{count} x {reason}"));
    }
    rows
}

fn times(times: &Times) -> String {
    let Times { count, p50_ms, p99_ms, p999_ms, max_ms } = times;
    format!("p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, p99.9 {p999_ms:.2} ms, max {max_ms:.2} ms ({count})")
}

fn cost(cost: &Cost, threads: &str) -> String {
    format!(
        "{:.0} ns per packet out in {threads}, {:.0} ns in all; {:.1} % of a core in {threads}, {:.1} % in all; {:.1} MiB",
        cost.threads_ns_per_packet,
        cost.ns_per_packet,
        cost.threads_cpu_percent,
        cost.cpu_percent,
        cost.memory_bytes as f64 / f64::from(1 << 20)
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_table_names_every_figure_once() {
        let text = table(&sample());
        for line in [
            "clients          51 of 51 connected, 50 streams",
            "packets out      4995/s (49950), 40.0 Mbit/s",
            "lost             50 (0.1000 %), 100 left out by the server",
            "latency          p50 0.50 ms, p99 0.99 ms, p99.9 1.00 ms, max 1.00 ms (1000)",
            "failed           2 x <b>rejected</b>: no",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(text.contains("6006 ns per packet out in shards"), "{text}");
        let limits: Vec<_> = text.lines().skip_while(|line| !line.is_empty()).collect();
        assert_eq!(
            limits[1..3],
            [
                "link              phase         clients  layer      reached p50  p95    never  stays   frozen  dropped  queue p95  resent",
                "600 kbit/s for 2  limited 30 s  4        1          1.0 s        3.0 s  2      90.0 %  8.0 %   1.5 %    95 ms      3.0 %",
            ]
        );
        assert!(!table(&Report { limits: Vec::new(), ..sample() }).contains("\n\n"));
    }
}
