//! Text that comes from elsewhere, made fit for a terminal. Names of objects, subjects and servers' words are chosen by
//! other people: what would steer the terminal, or reorder what is read, is not shown as it is.

use std::iter::repeat_n;

/// How something is shown where there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As everything else.
    #[default]
    Plain,
    /// A heading.
    Bold,
    /// Less important.
    Dim,
    /// It works.
    Good,
    /// Worth a look.
    Odd,
    /// It does not work.
    Bad,
}

/// Shows a text in a tone. The text must be [`plain`] already.
pub fn paint(colour: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Bold => "1",
        Tone::Dim => "2",
        Tone::Good => "32",
        Tone::Odd => "33",
        Tone::Bad => "1;31",
        Tone::Plain => "",
    };
    if !colour || code.is_empty() || text.is_empty() {
        return text.to_owned();
    }
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Replaces everything that is not one visible character: line ends and tabs by a space, what else steers terminals,
/// has no width or changes the direction of reading by `�`.
pub fn plain(text: &str) -> String {
    let one = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() || is_invisible(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(one).collect()
}

fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Characters.
pub fn width(text: &str) -> usize {
    text.chars().count()
}

/// At most so many characters: from a longer text the middle is left out, because names differ at their ends.
pub fn shortened(text: &str, max: usize) -> String {
    let len = width(text);
    if len <= max {
        return text.to_owned();
    }
    let kept = max.saturating_sub(1);
    let head = kept.div_ceil(2);
    text.chars().take(head).chain(['…']).chain(text.chars().skip(len - (kept - head))).take(max).collect()
}

/// Filled up with spaces.
pub fn padded(text: &str, to: usize, right: bool) -> String {
    let fill: String = repeat_n(' ', to.saturating_sub(width(text))).collect();
    if right { format!("{fill}{text}") } else { format!("{text}{fill}") }
}

/// Broken into lines at spaces, the first one behind `first` and the others behind `rest`. A word that is longer than a
/// line, such as a path, stands out, so that it can be copied in one piece.
pub fn wrapped(text: &str, max: usize, first: &str, rest: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !empty && width(&line) + 1 + width(word) > max {
            lines.push(std::mem::replace(&mut line, rest.to_owned()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_name_reaches_the_terminal_as_a_command() {
        assert_eq!(plain("a\x1b[2Jb\x07c\u{9b}31md"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}31md");
        assert_eq!(plain("two\nlines\tand\rmore"), "two lines and more");
        assert_eq!(plain("re\u{202e}txt.exe \u{200b}\u{2066}"), "re\u{fffd}txt.exe \u{fffd}\u{fffd}");
        assert_eq!(plain("Zürich ☃ 水"), "Zürich ☃ 水");
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shortened("abcdefghij", 10), "abcdefghij");
        assert_eq!(shortened("abcdefghijk", 10), "abcde…hijk");
        assert_eq!(shortened("äöüäöü", 4), "äö…ü");
        assert_eq!((shortened("abc", 1), shortened("abc", 0)), ("…".into(), String::new()));
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrapped("one two three", 9, "- ", "  "), ["- one two", "  three"]);
        assert_eq!(wrapped("a-word-that-is-long b", 5, "- ", "  "), ["- a-word-that-is-long", "  b"]);
        assert_eq!(wrapped("", 5, "- ", "  "), ["- "]);
    }

    #[test]
    fn colours_only_where_wanted() {
        assert_eq!(paint(false, Tone::Bad, "x"), "x");
        assert_eq!(paint(true, Tone::Bad, "x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(paint(true, Tone::Plain, "x"), "x");
    }
}
