//! What was sampled, as a picture: one panel for each figure, in the terminal and as SVG.

use std::fmt::Write as _;

use super::Series;

const WIDTH: f64 = 720.0;
const PANEL: f64 = 110.0;
const MARGIN: f64 = 12.0;
/// Columns in the terminal.
const COLUMNS: usize = 60;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The figure's course as one line of text, from its least to its greatest value.
pub(super) fn line(series: &Series) -> String {
    let (least, most) = series.range();
    let columns = series.points.len().min(COLUMNS);
    let bars: String = (0..columns)
        .map(|column| {
            let (_, value) = series.points[column * series.points.len() / columns];
            let height = (value - least) / (most - least).max(f64::MIN_POSITIVE);
            BARS[((height * 7.0).round() as usize).min(7)]
        })
        .collect();
    format!("{:<24} {bars} {least:.1} to {most:.1}", series.name)
}

/// All of them below each other.
pub(super) fn svg(all: &[&Series]) -> String {
    let height = PANEL * all.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (n, series) in all.iter().enumerate() {
        let top = PANEL * n as f64 + MARGIN + 12.0;
        let (least, most) = series.range();
        let last = series.points.last().map_or(1.0, |(at, _)| at.max(f64::MIN_POSITIVE));
        let points: Vec<_> = series
            .points
            .iter()
            .map(|(at, value)| {
                let x = MARGIN + (WIDTH - 2.0 * MARGIN) * at / last;
                let part = (value - least) / (most - least).max(f64::MIN_POSITIVE);
                format!("{x:.1},{:.1}", top + (PANEL - 2.0 * MARGIN - 12.0) * (1.0 - part))
            })
            .collect();
        // Writing to a text does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{:.1}\">{}: {least:.1} to {most:.1} in {last:.1} min</text>\n\
             <polyline points=\"{}\" fill=\"none\" stroke=\"#27c\" stroke-width=\"1.5\"/>",
            top - 4.0,
            series.name,
            points.join(" "),
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        Series { name: "memory, MiB", points: (0..8).map(|n| (f64::from(n), f64::from(n * 10))).collect() }
    }

    #[test]
    fn a_rising_figure_is_a_rising_line() {
        assert_eq!(line(&series()), "memory, MiB              ▁▂▃▄▅▆▇█ 0.0 to 70.0");
        let flat = Series { name: "descriptors", points: vec![(0.0, 5.0); 3] };
        assert_eq!(line(&flat), "descriptors              ▁▁▁ 5.0 to 5.0");
    }

    #[test]
    fn the_picture_has_a_panel_for_each_figure() {
        let svg = svg(&[&series(), &series()]);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("12.0,") && svg.contains("708.0,"), "{svg}");
    }
}
