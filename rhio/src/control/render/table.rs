//! Columns that stand under each other and fit the terminal.

use super::text::{Tone, padded, paint, plain, shortened, width, wrapped};

/// Between two columns.
const GAP: usize = 2;
/// Before each row.
const INDENT: usize = 2;
/// No column is made narrower than this.
const NARROWEST: usize = 8;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    head: &'static str,
    /// Made narrower where there is too little room.
    name: bool,
    /// Numbers stand at its right side.
    right: bool,
}

impl Column {
    /// Texts that are shown whole.
    pub const fn text(head: &'static str) -> Self {
        Self { head, name: false, right: false }
    }

    /// Names, whose middle is left out where there is too little room.
    pub const fn name(head: &'static str) -> Self {
        Self { head, name: true, right: false }
    }

    /// Numbers.
    pub const fn number(head: &'static str) -> Self {
        Self { head, name: false, right: true }
    }
}

/// What stands in a row under one column.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text, of whatever origin.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self::toned(Tone::Plain, text)
    }

    /// The same in a tone.
    pub fn toned(tone: Tone, text: impl AsRef<str>) -> Self {
        Self { text: plain(text.as_ref()), tone }
    }
}

/// A row, and what is to be said below it.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// As many as there are columns.
    pub cells: Vec<Cell>,
    /// Sentences.
    pub notes: Vec<(Tone, String)>,
}

/// The lines of a table.
pub fn table(columns: &[Column], rows: &[Row], max: usize, colour: bool) -> Vec<String> {
    let widths = widths(columns, rows, max);
    let line = |cells: &mut dyn Iterator<Item = (String, Tone)>| {
        let mut out = " ".repeat(INDENT);
        for (i, ((text, tone), (column, to))) in cells.zip(columns.iter().zip(&widths)).enumerate() {
            if i > 0 {
                out.push_str(&" ".repeat(GAP));
            }
            let text = padded(&shortened(&text, *to), *to, column.right);
            // Nothing stands behind the last column.
            let text = if i + 1 == columns.len() { text.trim_end() } else { &text };
            out.push_str(&paint(colour, tone, text));
        }
        out
    };
    let mut lines = vec![line(&mut columns.iter().map(|column| (column.head.to_owned(), Tone::Dim)))];
    for row in rows {
        lines.push(line(&mut row.cells.iter().map(|cell| (cell.text.clone(), cell.tone))));
        for (tone, note) in &row.notes {
            // What is to be done stands out.
            let (first, rest) = if note.starts_with('→') { ("      ", "        ") } else { ("    ", "    ") };
            let note = wrapped(&plain(note), max, first, rest);
            lines.extend(note.iter().map(|line| paint(colour, *tone, line)));
        }
    }
    lines
}

fn widths(columns: &[Column], rows: &[Row], max: usize) -> Vec<usize> {
    let natural = |(i, column): (usize, &Column)| {
        let cells = rows.iter().filter_map(|row| row.cells.get(i)).map(|cell| width(&cell.text));
        cells.chain([width(column.head)]).max().unwrap_or_default()
    };
    let mut widths: Vec<usize> = columns.iter().enumerate().map(natural).collect();
    let room = max.saturating_sub(INDENT + GAP * columns.len().saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        let names = columns.iter().zip(widths.iter_mut()).filter(|(column, _)| column.name);
        match names.map(|(_, width)| width).max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_names_give_way_first() {
        let columns = [Column::name("NAME"), Column::name("INTO"), Column::number("COUNT")];
        let row = |name: &str, into: &str, count: &str| Row {
            cells: [name, into, count].map(Cell::new).into(),
            notes: Vec::new(),
        };
        let rows = [row("a-very-long-name-of-something", "short", "1,234"), row("b", "c", "5")];
        let lines = table(&columns, &rows, 34, false);
        assert_eq!(
            lines,
            [
                "  NAME                INTO   COUNT",
                "  a-very-lo…omething  short  1,234",
                "  b                   c          5"
            ]
        );
        assert!(lines.iter().all(|line| width(line) <= 34));
    }
}
