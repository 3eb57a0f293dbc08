//! The table of attacks. An attack is one file in `attacks/`, a `mod` line and a table line here; the table yields the
//! strict configuration, the command-line form, the catalogue and the tests that run over all of them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attack::{Attack, AttackError, Info, Knowledge, Tamper, View};
use crate::data::Dataset;
use crate::random::Stream;

mod constant;
mod free_rider;
mod gaussian;
mod ipm;
mod label_flip;
mod non_finite;
mod none;
mod sign_flip;
mod wrong_shape;

/// Builds everything that follows from the table: `module: Type` per attack.
macro_rules! attacks {
    ($($module:ident: $name:ident,)*) => {
        $(pub use $module::$name;)*

        /// An attack with its parameters. As configuration `{ kind = "sign_flip", scale = 10.0 }`; unknown keys and
        /// parameters outside their range are refused, parameters left out take their default.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case", try_from = "Unchecked")]
        pub enum AttackConfig {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)*
        }

        /// The same before its parameters are checked.
        #[derive(Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        enum Unchecked {
            $($name($name),)*
        }

        impl TryFrom<Unchecked> for AttackConfig {
            type Error = AttackError;

            fn try_from(unchecked: Unchecked) -> Result<Self, AttackError> {
                let config = match unchecked {
                    $(Unchecked::$name(attack) => Self::$name(attack),)*
                };
                config.attack().check()?;
                Ok(config)
            }
        }

        impl AttackConfig {
            /// The attack itself.
            pub fn attack(&self) -> &dyn Attack {
                match self {
                    $(Self::$name(attack) => attack,)*
                }
            }

            /// What the catalogue says about it.
            pub fn info(&self) -> &'static Info {
                match self {
                    $(Self::$name(_) => &$module::INFO,)*
                }
            }
        }

        $(impl From<$name> for AttackConfig {
            fn from(attack: $name) -> Self {
                Self::$name(attack)
            }
        })*

        static CATALOGUE: &[&Info] = &[$(&$module::INFO),*];
    };
}
attacks! {
    none: None,
    sign_flip: SignFlip,
    gaussian: Gaussian,
    label_flip: LabelFlip,
    ipm: Ipm,
    constant: Constant,
    free_rider: FreeRider,
    non_finite: NonFinite,
    wrong_shape: WrongShape,
}

/// Every attack: name, formula, citation, knowledge, parameters.
pub fn catalogue() -> &'static [&'static Info] {
    CATALOGUE
}

/// Short form for the command line: `kind[:key=value,…]`, as in `sign_flip:scale=10`. The first parameter needs no name
/// (`sign_flip:10`); a label map is written `map=3>8+8>3`.
///
/// # Errors
/// Unknown attack, key or type; a parameter outside its range.
pub fn parse(text: &str) -> Result<AttackConfig, AttackError> {
    let wrong = |problem: String| AttackError::Syntax { text: text.chars().take(80).collect(), problem };
    let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    let Some(info) = CATALOGUE.iter().find(|info| info.kind == kind) else {
        let known: Vec<&str> = CATALOGUE.iter().map(|info| info.kind).collect();
        return Err(AttackError::Unknown { kind: kind.chars().take(40).collect(), known: known.join(", ") });
    };
    let keys = || match info.parameters {
        [] => "it has no parameters".to_owned(),
        some => format!("use {}", some.iter().map(|parameter| parameter.name).collect::<Vec<_>>().join(", ")),
    };
    let mut table = Map::new();
    for (position, part) in rest.into_iter().flat_map(|rest| rest.split(',')).enumerate() {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None => match info.parameters.first() {
                Some(first) if position == 0 => (first.name, part.trim()),
                _ => return Err(wrong(format!("{part:?} is not key=value; {}", keys()))),
            },
        };
        if !info.parameters.iter().any(|parameter| parameter.name == key) {
            return Err(wrong(format!("unknown key {key:?}; {}", keys())));
        }
        if value.is_empty() {
            return Err(wrong(format!("{key} has no value; write {key}=…")));
        }
        if table.insert(key.to_owned(), parse_value(value)).is_some() {
            return Err(wrong(format!("{key} is given twice; give it once")));
        }
    }
    table.insert("kind".to_owned(), Value::from(kind));
    let unchecked: Unchecked = serde_json::from_value(Value::Object(table))
        .map_err(|error| wrong(format!("{error}; see the parameter's meaning in the catalogue")))?;
    AttackConfig::try_from(unchecked)
}

fn parse_value(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return Value::from(number);
    }
    if let Some(number) = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
        return Value::Number(number);
    }
    if let Ok(flag) = text.parse::<bool>() {
        return Value::Bool(flag);
    }
    let pairs: Option<Vec<Value>> = text.split('+').map(parse_pair).collect();
    pairs.map_or_else(|| Value::from(text), Value::Array)
}

/// `3>8` as `[3, 8]`.
fn parse_pair(text: &str) -> Option<Value> {
    let (from, to) = text.split_once('>')?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    Some(Value::from(vec![number(from)?, number(to)?]))
}

impl std::str::FromStr for AttackConfig {
    type Err = AttackError;

    /// As [`parse`].
    fn from_str(text: &str) -> Result<Self, AttackError> {
        parse(text)
    }
}

impl std::fmt::Display for AttackConfig {
    /// The short form, with every parameter; [`parse`] reads it back.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.info().kind)?;
        let Ok(Value::Object(table)) = serde_json::to_value(self) else { return Ok(()) };
        let mut separator = ':';
        for parameter in self.info().parameters {
            let text = match table.get(parameter.name) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(pairs)) if pairs.is_empty() => continue,
                Some(Value::Array(pairs)) => {
                    let pair = |pair: &Value| format!("{}>{}", pair[0], pair[1]);
                    pairs.iter().map(pair).collect::<Vec<_>>().join("+")
                }
                Some(Value::Number(number)) => {
                    number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string())
                }
                Some(other) => other.to_string(),
            };
            write!(formatter, "{separator}{}={text}", parameter.name)?;
            separator = ',';
        }
        Ok(())
    }
}

impl Attack for AttackConfig {
    fn knowledge(&self) -> Knowledge {
        self.attack().knowledge()
    }

    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        self.attack().poison(data, stream)
    }

    fn forge(&self, view: &View<'_>, update: &mut [f32], stream: &mut Stream) {
        self.attack().forge(view, update, stream);
    }

    fn tamper(&self) -> Tamper {
        self.attack().tamper()
    }

    fn check(&self) -> Result<(), AttackError> {
        self.attack().check()
    }
}

#[cfg(test)]
mod tests;
