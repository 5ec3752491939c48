//! YAML as a tree in which every node knows where it was written.
//!
//! A configuration is put together from a file, environment variables and options, and an error must name the one that
//! is at fault. So this keeps the parser's positions and the scalars' exact text, which deserialising straight into
//! structs would lose, and leaves types to whoever reads the tree.

use std::collections::HashMap;
use std::fmt;

use granit_parser::{Event, Parser, ScalarStyle, Span};

/// Most nodes in one text, aliases counted as often as they are used. Far beyond any real configuration; it bounds what
/// a few lines of nested aliases can grow into.
const MAX_NODES: usize = 200_000;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The configuration file, at this line (the first is 1).
    File(usize),
    /// The environment variable of this name.
    Env(String),
    /// The command line option of this name, with its dashes.
    Flag(&'static str),
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub origin: Origin,
    pub value: Value,
}

/// A key of a mapping and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub name: String,
    pub origin: Origin,
}

/// What YAML knows, scalars as text.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Text {
        text: String,
        /// Neither quoted nor tagged as a string: may be read as a number.
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

impl Value {
    /// For messages: what was found, without its content.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Text { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a section with keys",
        }
    }
}

/// Text that is no YAML, or YAML of a kind that a configuration does not use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// The line, counted from 1.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Reads one YAML document. `origin` says where the node in a given line comes from. An empty text is null.
pub(super) fn parse(text: &str, origin: impl Fn(usize) -> Origin) -> Result<Node, SyntaxError> {
    let options = granit_parser::options! { emit_comments: false };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { parser, origin, anchors: HashMap::new(), nodes: 0 };
    let mut root = None;
    while let Some((event, span)) = builder.next()? {
        match event {
            Event::DocumentStart(..) if root.is_some() => {
                return Err(at(&span, "a second YAML document begins here, expected only one"));
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => root = Some(builder.node(event, &span)?),
        }
    }
    Ok(root.unwrap_or_else(|| Node { origin: (builder.origin)(1), value: Value::Null }))
}

fn at(span: &Span, message: impl Into<String>) -> SyntaxError {
    SyntaxError { line: span.start.line(), message: message.into() }
}

struct Builder<'a, F> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    origin: F,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a, F: Fn(usize) -> Origin> Builder<'a, F> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, SyntaxError> {
        self.parser.next().transpose().map_err(|error| SyntaxError {
            line: error.marker().line(),
            message: format!("is not valid YAML: {}", error.info()),
        })
    }

    /// The next event inside of a list or a mapping, which the parser never leaves open.
    fn inside(&mut self, start: &Span) -> Result<(Event<'a>, Span), SyntaxError> {
        self.next()?.ok_or_else(|| at(start, "is not valid YAML: it ends too early"))
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), SyntaxError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(at(span, format!("has more than {MAX_NODES} values")));
        }
        Ok(())
    }

    // The parser refuses nesting beyond 255 levels, so recursion is bounded.
    fn node(&mut self, event: Event<'a>, span: &Span) -> Result<Node, SyntaxError> {
        self.count(1, span)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (if null { Value::Null } else { Value::Text { text: text.into_owned(), plain } }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list(span)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(span)?, anchor),
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor).cloned() else {
                    return Err(at(span, "refers to something that is not complete yet"));
                };
                self.count(size(&target), span)?;
                return Ok(target);
            }
            _ => return Err(at(span, "is not valid YAML: expected a value")),
        };
        let node = Node { origin: (self.origin)(span.start.line()), value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, start: &Span) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.inside(start)? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, &span)?),
            }
        }
    }

    fn map(&mut self, start: &Span) -> Result<Value, SyntaxError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let (name, span) = match self.inside(start)? {
                (Event::MappingEnd, _) => return Ok(Value::Map(entries)),
                (Event::Scalar(name, ..), span) => (name.into_owned(), span),
                (_, span) => return Err(at(&span, "a key must be plain text")),
            };
            let origin = (self.origin)(span.start.line());
            if let Some((first, _)) = entries.iter().find(|(key, _)| key.name == name) {
                let place = match &first.origin {
                    Origin::File(line) => format!(" (before in line {line})"),
                    _ => String::new(),
                };
                return Err(at(&span, format!("the key \"{name}\" is here a second time{place}, expected it once")));
            }
            self.count(1, &span)?;
            let (event, span) = self.inside(start)?;
            let node = self.node(event, &span)?;
            entries.push((Key { name, origin }, node));
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Text { .. } => 1,
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| 1 + size(node)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, SyntaxError> {
        parse(text, Origin::File)
    }

    fn entries(node: Node) -> Vec<(Key, Node)> {
        match node.value {
            Value::Map(entries) => entries,
            other => panic!("expected a mapping, found {}", other.kind()),
        }
    }

    #[test]
    fn keys_and_values_know_their_lines() {
        let root = entries(read("# a comment\na: 1\nb:\n  - x\n  - {c: \"y\"}\n").unwrap());
        assert_eq!(root[0].0.origin, Origin::File(2));
        let Value::List(items) = &root[1].1.value else { panic!("b is a list") };
        assert_eq!(items[0].origin, Origin::File(4));
        assert_eq!(items[1].origin, Origin::File(5));
    }

    #[test]
    fn scalars_keep_their_exact_text_and_whether_they_were_quoted() {
        let root = entries(read("a: 0123\nb: \"0123\"\nc: ~\nd: !!str 7\ne: 1e5\n").unwrap());
        let text = |i: usize| match &root[i].1.value {
            Value::Text { text, plain } => Some((text.as_str(), *plain)),
            _ => None,
        };
        assert_eq!(text(0), Some(("0123", true)));
        assert_eq!(text(1), Some(("0123", false)));
        assert_eq!(text(2), None);
        assert_eq!(text(3), Some(("7", false)));
        assert_eq!(text(4), Some(("1e5", true)));
    }

    #[test]
    fn an_alias_stands_for_what_it_names() {
        let root = entries(read("a: &x [1, 2]\nb: *x\n").unwrap());
        assert!(matches!(&root[1].1.value, Value::List(items) if items.len() == 2));
    }

    #[test]
    fn duplicates_broken_text_and_several_documents_are_errors_with_a_line() {
        let error = read("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(error.line, 3);
        assert!(error.message.contains("\"a\"") && error.message.contains("line 1"), "{error}");
        assert_eq!(read("a: 1\nb: [1, 2\nc: 3\n").unwrap_err().line, 3);
        assert_eq!(read("a: 1\n---\nb: 1\n").unwrap_err().line, 2);
        assert_eq!(read("a: 1\n[b]: 1\n").unwrap_err().line, 2);
    }

    #[test]
    fn nested_aliases_cannot_grow_without_bound() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let list = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        assert!(read(&text).unwrap_err().message.contains("more than"));
    }

    #[test]
    fn nothing_at_all_is_null() {
        assert!(matches!(read("").unwrap().value, Value::Null));
        assert!(matches!(read("# only a comment\n").unwrap().value, Value::Null));
    }
}
