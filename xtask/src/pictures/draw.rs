//! A picture as SVG: a grid of boxes, and arrows with right angles.

use std::fmt::Write;

use anyhow::Result;

use super::source::{Arrow, Box, Group, Picture};

const WIDTH: usize = 284;
const LINE: usize = 18;
/// Between two columns, and between two rows.
const GAP: (usize, usize) = (76, 50);
const MARGIN: usize = 44;
const HEAD: usize = 92;
const LEGEND: usize = 44;

const STYLE: &str = "
    text { font: 13px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #24292f }
    .title { font-size: 19px; font-weight: 600 }
    .heading { font-weight: 600 }
    .label, .group-heading { font-size: 12px; fill: #57606a }
    .box { stroke-width: 1.4px }
    .ours { fill: #e7f1fc; stroke: #2f6fb2 }
    .kernel { fill: #fdf2dc; stroke: #b7842a }
    .other { fill: #f3f3f1; stroke: #8c8c86 }
    .end { fill: #fceceb; stroke: #b5534c }
    .group { fill: none; stroke: #b9c0c8; stroke-dasharray: 2 4; stroke-linecap: round }
    .arrow { fill: none; stroke: #57606a; stroke-width: 1.5px }
    .dashed { stroke-dasharray: 6 5 }";

struct Place {
    x: usize,
    y: usize,
    height: usize,
}

impl Place {
    fn right(&self) -> usize {
        self.x + WIDTH
    }
    fn middle(&self) -> (usize, usize) {
        (self.x + WIDTH / 2, self.y + self.height / 2)
    }
    fn bottom(&self) -> usize {
        self.y + self.height
    }
}

/// Where rows begin, and how high they are.
struct Grid(Vec<(usize, usize)>);

impl Grid {
    fn of(picture: &Picture) -> Self {
        let rows = picture.boxes.iter().map(|each| each.row + 1).max();
        let mut top = HEAD;
        let mut grid = Vec::new();
        for row in 0..rows.unwrap_or_default() {
            let there = picture.boxes.iter().filter(|each| each.row == row);
            let height = there.map(height).max().unwrap_or(0);
            grid.push((top, height));
            top += height + GAP.1;
        }
        Self(grid)
    }

    fn place(&self, each: &Box) -> Place {
        let (top, row) = self.0[each.row];
        Place {
            x: left_of(each.column),
            y: top + (row - height(each)) / 2,
            height: height(each),
        }
    }

    fn bottom(&self) -> usize {
        self.0.last().map_or(HEAD, |(top, height)| top + height)
    }
}

fn height(each: &Box) -> usize {
    each.lines.len() * LINE + 20
}

fn left_of(column: usize) -> usize {
    MARGIN + column * (WIDTH + GAP.0)
}

pub(super) fn svg(picture: &Picture) -> Result<String> {
    let grid = Grid::of(picture);
    let columns = picture.boxes.iter().map(|each| each.column + 1).max();
    let width = left_of(columns.unwrap_or_default()) - GAP.0 + MARGIN;
    let height = grid.bottom() + LEGEND + 32;
    let title = escaped(&picture.title);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n  <title>{title}</title>\n  \
         <style>{STYLE}\n  </style>\n  <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" \
         markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" \
         fill=\"#57606a\"/></marker></defs>\n  \
         <rect width=\"{width}\" height=\"{height}\" rx=\"10\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (MARGIN, 36), "title", &picture.title)?;
    for group in &picture.groups {
        draw_group(&mut out, &grid, group)?;
    }
    for arrow in &picture.arrows {
        draw_arrow(&mut out, &grid, picture, arrow)?;
    }
    for each in &picture.boxes {
        draw_box(&mut out, &grid.place(each), each)?;
    }
    draw_legend(&mut out, picture, height - LEGEND)?;
    out += "</svg>\n";
    Ok(out)
}

fn draw_group(out: &mut String, grid: &Grid, group: &Group) -> Result<()> {
    let (top, _) = grid.0[group.row];
    let (last, height) = grid.0[group.row + group.rows - 1];
    let (x, y) = (left_of(group.column) - 16, top - 30);
    let width = group.columns * (WIDTH + GAP.0) - GAP.0 + 32;
    let height = last + height - y + 10;
    writeln!(
        out,
        "  <rect class=\"group\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"12\"/>"
    )?;
    text(out, (x + 16, y + 19), "group-heading", &group.heading)
}

fn draw_box(out: &mut String, place: &Place, each: &Box) -> Result<()> {
    writeln!(
        out,
        "  <rect class=\"box {}\" x=\"{}\" y=\"{}\" width=\"{WIDTH}\" height=\"{}\" rx=\"8\"/>",
        each.kind, place.x, place.y, place.height
    )?;
    for (number, line) in each.lines.iter().enumerate() {
        let class = if number == 0 { "heading" } else { "line" };
        let at = (place.x + 14, place.y + 23 + number * LINE);
        text(out, at, class, line)?;
    }
    Ok(())
}

/// Straight where both are in one row or column, else across and down in the gap between.
fn draw_arrow(out: &mut String, grid: &Grid, picture: &Picture, arrow: &Arrow) -> Result<()> {
    let (from, to) = (&picture.boxes[arrow.from], &picture.boxes[arrow.to]);
    let (a, b) = (grid.place(from), grid.place(to));
    let ((ax, ay), (_, by)) = (a.middle(), b.middle());
    let (path, label) = if arrow.around {
        let x = a.right().max(b.right()) + GAP.0 / 2;
        (
            format!("M{} {ay}H{x}V{by}H{}", a.right(), b.right()),
            (x + 10, usize::midpoint(ay, by) + 4),
        )
    } else if from.column == to.column {
        (
            format!("M{ax} {}V{}", a.bottom(), b.y),
            (ax + 10, usize::midpoint(a.bottom(), b.y) + 4),
        )
    } else {
        let (start, turn, end) = if from.column < to.column {
            (a.right(), a.right() + GAP.0 / 2, b.x)
        } else {
            (a.x, a.x - GAP.0 / 2, b.right())
        };
        let path = format!("M{start} {ay}H{turn}V{by}H{end}");
        (path, (start.min(end) + 8, by - 7))
    };
    let dashed = if arrow.dashed { " dashed" } else { "" };
    writeln!(
        out,
        "  <path class=\"arrow{dashed}\" d=\"{path}\" marker-end=\"url(#head)\"/>"
    )?;
    if arrow.label.is_empty() {
        return Ok(());
    }
    text(out, label, "label", &arrow.label)
}

fn draw_legend(out: &mut String, picture: &Picture, y: usize) -> Result<()> {
    let mut x = MARGIN;
    for (kind, means) in &picture.kinds {
        writeln!(
            out,
            "  <rect class=\"box {kind}\" x=\"{x}\" y=\"{y}\" width=\"18\" height=\"14\" rx=\"4\"/>"
        )?;
        text(out, (x + 26, y + 12), "label", means)?;
        x += 56 + means.chars().count() * 7;
    }
    Ok(())
}

fn text(out: &mut String, (x, y): (usize, usize), class: &str, words: &str) -> Result<()> {
    let words = escaped(words);
    writeln!(
        out,
        "  <text class=\"{class}\" x=\"{x}\" y=\"{y}\">{words}</text>"
    )?;
    Ok(())
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}
