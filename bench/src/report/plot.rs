// SPDX-License-Identifier: Apache-2.0
//! Pictures of a run, as SVG.

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{IntoSegmentedCoord, SegmentValue};
use plotters::prelude::*;

use crate::compare::record::{Row, Run};
use crate::compare::workload::Workload;
use crate::compare::world::DataPath;

const WIDTH: u32 = 860;
const BAR: u32 = 26;
const FRAME: u32 = 90;
/// Ratios beyond this are shown on a logarithmic scale.
const LINEAR: f64 = 3.0;

/// Which colour tells a data path.
fn colour(path: DataPath) -> RGBColor {
    match path {
        DataPath::Direct => RGBColor(130, 130, 130),
        DataPath::IptablesLegacy => RGBColor(196, 78, 82),
        DataPath::IptablesNft => RGBColor(221, 132, 82),
        DataPath::Nftables => RGBColor(204, 185, 116),
        DataPath::Ipvs => RGBColor(147, 120, 96),
        DataPath::Pintle => RGBColor(33, 102, 172),
        DataPath::PintleSockets => RGBColor(103, 169, 207),
    }
}

/// A bar for each world, with its interval.
pub fn bars(run: &Run, workload: Workload) -> Result<String> {
    let rows: Vec<(&Row, DataPath)> = run
        .worlds
        .iter()
        .filter_map(|world| Some((run.row(workload, &world.name)?, world.world.path)))
        .collect();
    let largest = rows.iter().map(|(row, _)| high(row)).fold(1.0, f64::max);
    let mut svg = String::new();
    let height = FRAME + BAR * rows.len() as u32;
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    let drawn = if largest > LINEAR {
        draw_bars(&area, &rows, (0.5..largest * 1.3).log_scale(), 0.5)
    } else {
        draw_bars(&area, &rows, 0.0..largest * 1.08, 0.0)
    };
    drawn.map_err(|error| anyhow!("draw {}: {error}", workload.name()))?;
    drop(area);
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_bars<X>(area: &Area<'_>, rows: &[(&Row, DataPath)], scale: X, start: f64) -> Drawn
where
    X: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
    X::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
{
    area.fill(&WHITE)?;
    let names = |value: &SegmentValue<i32>| match value {
        SegmentValue::CenterOf(index) => {
            let index = rows.len() as i32 - 1 - index;
            rows.get(index as usize).map(|(row, _)| row.world.clone()).unwrap_or_default()
        }
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(210)
        .build_cartesian_2d(scale, (0..rows.len() as i32 - 1).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(rows.len() + 1)
        .y_label_formatter(&names)
        .x_desc("ratio of median latency to direct; less is better")
        .draw()?;
    for (index, (row, path)) in rows.iter().enumerate() {
        let place = (rows.len() - 1 - index) as i32;
        let (from, to) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
        let ratio = row.estimate.ratio;
        let mut bar = Rectangle::new([(start, from), (ratio, to)], colour(*path).filled());
        bar.set_margin(4, 4, 0, 0);
        chart.draw_series([bar])?;
        let middle = SegmentValue::CenterOf(place);
        if let Some([low, high]) = row.estimate.interval95 {
            let line = [(low, middle.clone()), (high, middle)];
            chart.draw_series([PathElement::new(line, BLACK.stroke_width(2))])?;
        }
    }
    let unit = [(1.0, SegmentValue::Exact(0)), (1.0, SegmentValue::Exact(rows.len() as i32))];
    chart.draw_series([PathElement::new(unit, BLACK.mix(0.5))])?;
    area.present()?;
    Ok(())
}

/// A line for each data path over the number of services; nothing where that was not varied.
pub fn by_services(run: &Run, workload: Workload) -> Result<Option<String>> {
    let mut paths: Vec<DataPath> = run.worlds.iter().map(|world| world.world.path).collect();
    paths.dedup();
    let lines: Vec<(DataPath, Vec<(f64, f64)>)> = paths
        .into_iter()
        .map(|path| (path, points(run, workload, path)))
        .filter(|(_, points)| points.len() > 1)
        .collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, 380)).into_drawing_area();
    let drawn = draw_lines(&area, &lines);
    drawn.map_err(|error| anyhow!("draw {} by services: {error}", workload.name()))?;
    drop(area);
    Ok(Some(svg))
}

fn points(run: &Run, workload: Workload, path: DataPath) -> Vec<(f64, f64)> {
    let worlds = run.worlds.iter().filter(|world| {
        world.world.path == path && !world.world.conntrack && path != DataPath::Direct
    });
    let point = |(services, name): (u32, &str)| {
        Some((f64::from(services), run.row(workload, name)?.estimate.ratio))
    };
    worlds.filter_map(|world| point((world.world.services, &world.name))).collect()
}

fn draw_lines(area: &Area<'_>, lines: &[(DataPath, Vec<(f64, f64)>)]) -> Drawn {
    area.fill(&WHITE)?;
    let all = || lines.iter().flat_map(|(_, points)| points);
    let most = all().map(|(services, _)| *services).fold(1.0, f64::max);
    let largest = all().map(|(_, ratio)| *ratio).fold(1.0, f64::max);
    let mut chart =
        ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((1.0..most).log_scale(), (0.8..largest * 1.1).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("services")
        .y_desc("ratio to direct")
        .draw()?;
    for (path, points) in lines {
        let colour = colour(*path);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(path.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        let dots = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(dots)?;
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

fn high(row: &Row) -> f64 {
    row.estimate.interval95.map_or(row.estimate.ratio, |[_, high]| high)
}
