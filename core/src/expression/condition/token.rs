//! The words of a condition.

use crate::spec::shown;

/// One word of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    And,
    Or,
    Not,
    Equal,
    Different,
    Open,
    Close,
    /// A text in single quotes, without them.
    Text(String),
    /// Letters, digits, `.`, `_`, `-`: a number, a path, the name of a function.
    Word(String),
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::And => f.write_str("&&"),
            Self::Or => f.write_str("||"),
            Self::Not => f.write_str("!"),
            Self::Equal => f.write_str("=="),
            Self::Different => f.write_str("!="),
            Self::Open => f.write_str("("),
            Self::Close => f.write_str(")"),
            Self::Text(text) => write!(f, "'{}'", shown(text)),
            Self::Word(word) => f.write_str(&shown(word)),
        }
    }
}

/// Two characters that mean something together.
const PAIRS: [(&str, Token); 4] =
    [("&&", Token::And), ("||", Token::Or), ("==", Token::Equal), ("!=", Token::Different)];
/// One character that means something alone.
const SINGLE: [(&str, Token); 3] = [("!", Token::Not), ("(", Token::Open), (")", Token::Close)];

/// Splits a condition into words.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix('\'') {
            let (text, behind) = quoted(behind)?;
            tokens.push(Token::Text(text));
            rest = behind;
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
            tokens.push(Token::Word(word.to_owned()));
            rest = behind;
        } else {
            let found = PAIRS.iter().chain(&SINGLE);
            let found = found.filter_map(|(sign, token)| rest.strip_prefix(sign).map(|behind| (token, behind))).next();
            let (token, behind) = found.ok_or_else(|| unknown(first, rest))?;
            tokens.push(token.clone());
            rest = behind;
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

/// The text up to the closing quote, and what is behind it.
fn quoted(mut rest: &str) -> Result<(String, &str), String> {
    let mut text = String::new();
    loop {
        let (before, behind) = rest
            .split_once('\'')
            .ok_or_else(|| "a quote is opened and not closed: write `'` after the text".to_owned())?;
        text.push_str(before);
        match behind.strip_prefix('\'') {
            Some(behind) => {
                text.push('\'');
                rest = behind;
            }
            None => return Ok((text, behind)),
        }
    }
}

/// What to write instead of a character that means nothing here.
fn unknown(first: char, rest: &str) -> String {
    let advice = match first {
        '&' => "write `&&` for \"and\"",
        '|' => "write `||` for \"or\"",
        '=' => "write `==` to compare",
        '"' => "write texts in single quotes",
        ',' => "no function takes values: compare with `==` and `!=`",
        '<' | '>' => "only `==` and `!=` compare",
        '$' | '{' | '}' => "write the whole condition in one `${{ ... }}`, or without",
        _ => "write texts in single quotes, such as `vars.region == 'eu'`",
    };
    format!("`{}` cannot stand here: {advice}", shown(rest.split_whitespace().next().unwrap_or_default()))
}
