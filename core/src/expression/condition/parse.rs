//! From the words of a condition to what they mean.
//!
//! ```text
//! any     = all { "||" all }
//! all     = one { "&&" one }
//! one     = "!" one | "(" any ")" | FUNCTION "(" ")" | "true" | "false" | operand ("==" | "!=") operand
//! operand = 'text' | number | "true" | "false" | reference
//! ```
//! A `!` stands before something that is true or false by itself; before a comparison it would read as part of its left side.

use super::super::{CLOSE, OPEN, Reference, parse};
use super::token::{Token, tokens};
use super::{Node, Operand};
use crate::spec::{shown, suggest};

/// Longest condition in bytes.
const MAX_BYTES: usize = 4096;
/// Deepest nesting of `(` and `!`.
const MAX_DEPTH: usize = 32;
const FUNCTIONS: [(&str, Node); 3] = [("success", Node::Success), ("failure", Node::Failure), ("always", Node::Always)];
/// What a condition may say, for messages.
const EXAMPLE: &str = "write `success()`, `failure()`, `always()` or a comparison such as `vars.region == 'eu'`";

/// Reads a whole condition.
pub(super) fn root(source: &str) -> Result<Node, String> {
    if source.len() > MAX_BYTES {
        return Err(format!("a condition has at most {MAX_BYTES} characters, this one {}", source.len()));
    }
    let text = source.trim();
    let text = text.strip_prefix(OPEN).and_then(|text| text.strip_suffix(CLOSE)).unwrap_or(text);
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Err(format!("the condition is empty: {EXAMPLE}"));
    }
    let mut parser = Parser { tokens, next: 0, depth: 0 };
    let node = parser.any()?;
    match parser.peek() {
        None => Ok(node),
        Some(token) => Err(behind(token)),
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    /// Takes the next word if it is this one.
    fn accept(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.all()?];
        while self.accept(&Token::Or) {
            nodes.push(self.all()?);
        }
        Ok(single(nodes, Node::Any))
    }

    fn all(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.one()?];
        while self.accept(&Token::And) {
            nodes.push(self.one()?);
        }
        Ok(single(nodes, Node::All))
    }

    fn one(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("the condition is nested deeper than {MAX_DEPTH}: write it with fewer parentheses"));
        }
        let node = if self.accept(&Token::Not) {
            match self.one()? {
                Node::Compare { .. } if !self.closed() => {
                    return Err("`!` stands before a comparison: write `!(a == b)`, or `a != b`".to_owned());
                }
                inner => Node::Not(Box::new(inner)),
            }
        } else if self.accept(&Token::Open) {
            let inner = self.any()?;
            if !self.accept(&Token::Close) {
                return Err(self.peek().map_or_else(|| "a `(` is not closed: write `)`".to_owned(), behind));
            }
            inner
        } else {
            self.plain()?
        };
        self.depth -= 1;
        Ok(node)
    }

    /// Whether what was read last ended with `)`.
    fn closed(&self) -> bool {
        self.next.checked_sub(1).and_then(|last| self.tokens.get(last)) == Some(&Token::Close)
    }

    /// A function, a truth value, or a comparison.
    fn plain(&mut self) -> Result<Node, String> {
        let first = self.take();
        if let Some(Token::Word(word)) = &first
            && self.accept(&Token::Open)
        {
            let function = function(word)?;
            if !self.accept(&Token::Close) {
                return Err(format!("`{}` takes nothing: write `{}()`", shown(word), shown(word)));
            }
            return Ok(function);
        }
        let equal = match self.peek() {
            Some(Token::Equal) => true,
            Some(Token::Different) => false,
            _ => return alone(first),
        };
        self.next += 1;
        let left = operand(first)?;
        let right = operand(self.take())?;
        if matches!(self.peek(), Some(Token::Equal | Token::Different)) {
            return Err("a comparison has two sides: join two comparisons with `&&` or `||`".to_owned());
        }
        Ok(Node::Compare { left, equal, right })
    }
}

fn single(mut nodes: Vec<Node>, join: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        last => {
            nodes.extend(last);
            join(nodes)
        }
    }
}

fn function(word: &str) -> Result<Node, String> {
    if let Some((_, node)) = FUNCTIONS.iter().find(|(name, _)| *name == word) {
        return Ok(node.clone());
    }
    let meant = match word {
        "cancelled" | "canceled" => "; a deployment that is canceled starts no more steps".to_owned(),
        _ => suggest::hint(word, FUNCTIONS.iter().map(|(name, _)| *name)),
    };
    Err(format!("there is no function `{}`: known are `success()`, `failure()` and `always()`{meant}", shown(word)))
}

/// What a word that is compared with nothing means.
fn alone(token: Option<Token>) -> Result<Node, String> {
    match token {
        Some(Token::Word(word)) if word == "true" || word == "false" => Ok(Node::Constant(word == "true")),
        Some(Token::Word(word)) if FUNCTIONS.iter().any(|(name, _)| *name == word) => {
            Err(format!("`{word}` is a function: write `{word}()`"))
        }
        token => {
            let text = token.as_ref().map(ToString::to_string);
            operand(token)?;
            let text = text.unwrap_or_default();
            Err(format!("`{text}` is neither true nor false: compare it, for example `{text} == 'true'`"))
        }
    }
}

fn operand(token: Option<Token>) -> Result<Operand, String> {
    match token {
        Some(Token::Text(text)) => Ok(Operand::Text(text)),
        Some(Token::Word(word)) if is_value(&word) => Ok(Operand::Text(word)),
        Some(Token::Word(word)) => match parse::reference(&word) {
            Ok(Reference::Secrets(name)) => {
                Err(format!("`secrets.{name}` cannot be compared: which steps run would show something of the secret"))
            }
            Ok(to) => Ok(Operand::Reference(to)),
            Err(hint) => {
                Err(format!("`{word}` is not known here: {EXAMPLE}, texts in single quotes{hint}", word = shown(&word)))
            }
        },
        Some(token) => Err(format!("`{token}` stands where a value is needed: {EXAMPLE}")),
        None => Err(format!("the condition ends where a value is needed: {EXAMPLE}")),
    }
}

/// A number or a truth value: it stands for its text.
fn is_value(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = word.strip_prefix('-').unwrap_or(word);
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(whole, rest)| (whole, Some(rest)));
    word == "true" || word == "false" || digits(whole) && fraction.is_none_or(digits)
}

/// A word behind a complete condition.
fn behind(token: &Token) -> String {
    let advice = match token {
        Token::Close => "there is no `(` before it".to_owned(),
        Token::Word(word) if word == "and" => "write `&&`".to_owned(),
        Token::Word(word) if word == "or" => "write `||`".to_owned(),
        Token::Equal | Token::Different => "compare texts, numbers and names, not conditions".to_owned(),
        _ => "write `&&` or `||` between two conditions".to_owned(),
    };
    format!("`{token}` cannot stand here: {advice}")
}
