//! Aligned tables without borders.

use std::fmt::Write as _;

use super::output::clean;

/// Columns are parted by so many spaces.
const GAP: &str = "  ";

/// A table that may be printed in parts: its columns keep the width that earlier rows gave them.
#[derive(Debug)]
pub struct Table {
    head: &'static [&'static str],
    widths: Vec<usize>,
    headed: bool,
}

impl Table {
    /// A table with these column heads; empty ones make a table without a head line.
    pub fn new(head: &'static [&'static str]) -> Self {
        let widths = head.iter().map(|cell| cell.chars().count()).collect();
        Self { head, widths, headed: head.iter().all(|cell| cell.is_empty()) }
    }

    /// These rows as lines, under the head if they are the first. The last column is not padded.
    pub fn lines<const N: usize>(&mut self, rows: &[[String; N]]) -> String {
        let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| clean(cell))).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        if !self.headed && !rows.is_empty() {
            self.headed = true;
            self.line(&mut text, self.head.iter().copied());
        }
        for row in &rows {
            self.line(&mut text, row.iter().map(String::as_str));
        }
        text
    }

    fn line<'a>(&self, text: &mut String, cells: impl Iterator<Item = &'a str>) {
        let start = text.len();
        for (at, (width, cell)) in self.widths.iter().zip(cells).enumerate() {
            let gap = if at == 0 { "" } else { GAP };
            // Writing to a string cannot fail.
            let _ = write!(text, "{gap}{cell:<width$}");
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<const N: usize>(cells: [&str; N]) -> [String; N] {
        cells.map(str::to_owned)
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let mut table = Table::new(&["POSITION", "EVENT", "WHY"]);
        let text = table.lines(&[row(["1", "network-changed", ""]), row(["2", "x", "late"])]);
        assert_eq!(
            text,
            "POSITION  EVENT            WHY\n\
             1         network-changed\n\
             2         x                late\n"
        );
    }

    #[test]
    fn a_later_part_has_no_head_and_keeps_the_widths() {
        let mut table = Table::new(&["A", "B"]);
        assert_eq!(table.lines(&[row(["long", "x"])]), "A     B\nlong  x\n");
        assert_eq!(table.lines(&[row(["s", "y"])]), "s     y\n");
    }

    #[test]
    fn a_table_without_rows_prints_nothing() {
        assert_eq!(Table::new(&["A"]).lines::<1>(&[]), "");
    }

    #[test]
    fn what_would_steer_the_terminal_is_shown_instead() {
        assert_eq!(Table::new(&[""]).lines(&[row(["a\u{1b}[2Jb\n"])]), "a\\u{1b}[2Jb\\n\n");
    }
}
