//! A report as one HTML page without anything else: tables, and plots as inline SVG.

use std::fmt::Write;

use super::limited::COLUMNS;
use super::table::rows;
use super::{LimitReport, Report, Second};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;
/// Room for the numbers at the left and below.
const LEFT: f64 = 64.0;
const BELOW: f64 = 24.0;
const GRID_LINES: u32 = 4;
const COLOURS: [&str; 3] = ["#1f6feb", "#d29922", "#cf222e"];
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2328}\
    table{border-collapse:collapse}td{padding:.2rem 1rem .2rem 0;vertical-align:top}td:first-child,th{color:#59636e}th{padding:.2rem 1rem .2rem 0;font-weight:normal;text-align:left}\
    h2{font-size:1rem;margin:1.5rem 0 .3rem}svg{width:100%;height:auto}text{font-size:11px;fill:#59636e}\
    @media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}}";

/// One or more reports (the steps of a ramp) as a page.
pub fn page(reports: &[Report]) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>moonring-loadtest</title><style>{STYLE}</style>\
         <h1>moonring-loadtest</h1>"
    );
    for report in reports {
        html.push_str("<section><table>");
        for (name, value) in rows(report) {
            write(&mut html, format_args!("<tr><td>{}</td><td>{}</td></tr>", escape(&name), escape(&value)));
        }
        html.push_str("</table>");
        limited(&mut html, &report.limits);
        plots(&mut html, &report.seconds_log);
        html.push_str("</section>");
    }
    html.push_str("</html>\n");
    html
}

fn limited(html: &mut String, limits: &[LimitReport]) {
    if limits.is_empty() {
        return;
    }
    html.push_str("<h2>Subscribers behind links</h2><table><tr>");
    COLUMNS.iter().for_each(|name| write(html, format_args!("<th>{name}</th>")));
    html.push_str("</tr>");
    for limit in limits {
        html.push_str("<tr>");
        limit.cells().iter().for_each(|cell| write(html, format_args!("<td>{}</td>", escape(cell))));
        html.push_str("</tr>");
    }
    html.push_str("</table>");
}

fn plots(html: &mut String, log: &[Second]) {
    let series = |name: &'static str, value: fn(&Second) -> f64| (name, log.iter().map(value).collect::<Vec<_>>());
    let times: Vec<f64> = log.iter().map(|second| second.at_s).collect();
    plot(html, "Packets out of the server, per second", &times, &[series("packets/s", |s| s.packets_out_per_s)]);
    plot(
        html,
        "Forwarding latency, ms",
        &times,
        &[
            series("p50", |s| s.latency.p50_ms),
            series("p99", |s| s.latency.p99_ms),
            series("p99.9", |s| s.latency.p999_ms),
        ],
    );
    plot(html, "Loss, %", &times, &[series("loss", |s| s.loss_percent)]);
    plot(html, "Clients", &times, &[series("connected", |s| s.connected as f64)]);
    plot(html, "Server, % of a core", &times, &[series("cpu", |s| s.server_cpu_percent)]);
    plot(
        html,
        "Server memory, MiB",
        &times,
        &[series("memory", |s| s.server_memory_bytes as f64 / f64::from(1 << 20))],
    );
}

fn plot(html: &mut String, title: &str, times: &[f64], series: &[(&str, Vec<f64>)]) {
    let highest = series.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
    let end = times.last().copied().unwrap_or_default();
    if times.len() < 2 || highest <= 0.0 || !highest.is_finite() {
        return;
    }
    let top = round_up(highest);
    let (x, y) = (|t: f64| LEFT + t / end * (WIDTH - LEFT), |v: f64| HEIGHT - v / top * (HEIGHT - 10.0));
    write(
        html,
        format_args!("<h2>{}</h2><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", escape(title), HEIGHT + BELOW),
    );
    for line in 0..=GRID_LINES {
        let value = top * f64::from(line) / f64::from(GRID_LINES);
        let at = y(value);
        write(
            html,
            format_args!(
                "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#8886\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                short(value)
            ),
        );
    }
    write(html, format_args!("<text x=\"{WIDTH}\" y=\"{:.0}\" text-anchor=\"end\">{end:.0} s</text>", HEIGHT + 16.0));
    for (n, (name, values)) in series.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let points: Vec<String> = times.iter().zip(values).map(|(t, v)| format!("{:.1},{:.1}", x(*t), y(*v))).collect();
        let points = points.join(" ");
        write(
            html,
            format_args!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"),
        );
        let (x, y) = (LEFT + 70.0 * n as f64, HEIGHT + 16.0);
        write(html, format_args!("<text x=\"{x:.0}\" y=\"{y:.0}\" style=\"fill:{colour}\">{}</text>", escape(name)));
    }
    html.push_str("</svg>");
}

/// The next of 1, 2, 5, 10, ... that is not below.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e4 => format!("{:.0}k", v / 1e3),
        v if v >= 10.0 || v == 0.0 => format!("{v:.0}"),
        v if v >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.4}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn write(html: &mut String, content: std::fmt::Arguments<'_>) {
    html.write_fmt(content).expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_page_needs_nothing_else_and_escapes_what_others_wrote() {
        let page = page(&[sample(), sample()]);
        assert_eq!(page.matches("<section>").count(), 2);
        assert!(page.matches("<svg").count() >= 8 && page.matches("<svg").count() == page.matches("</svg>").count());
        assert!(page.contains("<th>reached p50</th>") && page.contains("<td>600 kbit/s for 2</td>"));
        assert!(page.contains("&lt;b&gt;rejected&lt;/b&gt;") && !page.contains("<b>rejected"));
        for outside in ["http:", "src=", "href=", "<script", "NaN", "inf"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, expected) in [(0.003, 0.005), (1.0, 1.0), (1.1, 2.0), (7_000.0, 10_000.0), (49.0, 50.0)] {
            assert!((round_up(value) - expected).abs() < 1e-9, "{value}");
        }
    }
}
