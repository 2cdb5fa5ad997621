//! Tables of text: for the terminal in aligned columns, for the page as they are.

use std::io::Write;

use crate::failure::Failure;
use crate::output::put;

/// A column's head, and where its cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// To the left.
    Text(&'static str),
    /// To the right.
    Number(&'static str),
}

impl Column {
    pub(super) fn head(self) -> &'static str {
        match self {
            Self::Text(head) | Self::Number(head) => head,
        }
    }
}

/// Rows of cells below heads. Cells hold text for people, in which nothing ends a line.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Grid {
    /// Writes the heads and the rows, each column as wide as its widest cell.
    pub(super) fn put(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let heads: Vec<String> = self.columns.iter().map(|column| column.head().to_owned()).collect();
        let lines: Vec<&[String]> = std::iter::once(&heads[..]).chain(self.rows.iter().map(Vec::as_slice)).collect();
        let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| width(column).unwrap_or_default()).collect();
        for line in lines {
            let cells = line.iter().zip(&self.columns).zip(&widths).map(|((cell, column), width)| match column {
                Column::Text(_) => format!("{cell:width$}"),
                Column::Number(_) => format!("{cell:>width$}"),
            });
            let text = cells.collect::<Vec<_>>().join("  ");
            put!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let grid = Grid {
            columns: vec![Column::Text("name"), Column::Number("size"), Column::Text("")],
            rows: vec![row(["a\u{e4}bcd", "1", "x"]), row(["b", "12345", ""])],
        };
        let mut out = Vec::new();
        grid.put(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "name    size\na\u{e4}bcd      1  x\nb      12345\n");
    }
}
