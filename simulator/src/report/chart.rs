//! The accuracy curves as inline SVG.
//!
//! Colours are fixed values which the page's style sheet maps to its light or dark palette.

use plotters::prelude::*;

use super::RunReport;

/// Curves whose colours differ; further runs repeat them with another marker.
pub(super) const PALETTE: usize = 8;

const COLOURS: [RGBColor; PALETTE] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0x6B, 0x5B, 0x95),
    RGBColor(0x8C, 0x7A, 0x00),
];
const INK: RGBColor = RGBColor(0x10, 0x10, 0x10);
const AXIS: RGBColor = RGBColor(0x20, 0x20, 0x20);
const GRID: RGBColor = RGBColor(0x30, 0x30, 0x30);

/// Twice the size it is shown at: the drawing library rounds to whole pixels.
const SIZE: (u32, u32) = (1_840, 800);

type Failure = Box<dyn std::error::Error>;

/// The chart, or `None` if no run has a finite accuracy to draw.
pub(super) fn accuracy_curves(runs: &[RunReport]) -> Option<String> {
    let curves: Vec<Vec<(f64, f64)>> = runs.iter().map(finite_points).collect();
    let rounds = || curves.iter().flatten().map(|(round, _)| *round);
    let first = rounds().min_by(f64::total_cmp)?;
    let last = rounds().max_by(f64::total_cmp)?.max(first + 1.0);
    let mut svg = String::new();
    draw(&mut svg, &curves, first, last).ok()?;
    Some(svg)
}

fn finite_points(run: &RunReport) -> Vec<(f64, f64)> {
    let points = run.accuracy.iter().filter(|(_, accuracy)| accuracy.is_finite());
    points.map(|(round, accuracy)| (*round as f64, accuracy.clamp(0.0, 1.0))).collect()
}

fn draw(svg: &mut String, curves: &[Vec<(f64, f64)>], first: f64, last: f64) -> Result<(), Failure> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .margin_right(36)
        .x_label_area_size(92)
        .y_label_area_size(128)
        .build_cartesian_2d(first..last, 0.0..1.0)?;
    let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.stroke_width(2))
        .axis_style(AXIS.stroke_width(2))
        .x_labels(((last - first) as usize + 1).clamp(2, 11))
        .y_labels(6)
        .x_label_formatter(&|round| if round.fract() == 0.0 { format!("{round}") } else { String::new() })
        .y_label_formatter(&|share| format!("{:.0} %", share * 100.0))
        .x_desc("round")
        .y_desc("test accuracy")
        .label_style(text(28))
        .axis_desc_style(text(30))
        .draw()?;
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % PALETTE];
        chart.draw_series(LineSeries::new(curve.iter().copied(), colour.stroke_width(6)))?;
        // Too many markers hide the line; the shapes tell the curves apart without colour.
        let every = curve.len().div_ceil(13).max(1);
        let marked = curve.iter().copied().skip(index % every).step_by(every);
        match index % 3 {
            0 => drop(chart.draw_series(marked.map(|point| Circle::new(point, 9, colour.filled())))?),
            1 => drop(chart.draw_series(marked.map(|point| TriangleMarker::new(point, 14, colour.filled())))?),
            _ => drop(chart.draw_series(marked.map(|point| Cross::new(point, 10, colour.stroke_width(5))))?),
        }
    }
    area.present()?;
    Ok(())
}
