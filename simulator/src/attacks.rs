//! The table of attacks. An attack is one file in `attacks/`, a `mod` line and a table line here; the table yields the
//! strict configuration, the command-line form, the catalogue and the tests that run over all of them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attack::{Attack, AttackError, Colluder, Info, Knowledge, Lesson, Tamper, View, Wishes};
use crate::data::{Dataset, Trigger};
use crate::random::Stream;
use crate::scalar::Scalar;

pub use adaptive::Goal;
pub use alie::{Sign, largest_deviation};
pub use auto::{Auto, Choice};
pub use inner::Inner;
pub use min_sum::Bound;
pub use non_finite::Poison;
pub use page::page;
pub use pgd_backdoor::Planted;
pub use search::{Directions, Search};
pub use stealth::Perturbation;
pub use sybil::Names;

mod adaptive;
mod alie;
mod alie_opt;
mod auto;
mod backdoor;
mod constant;
mod constrain_and_scale;
mod dba;
mod dropout;
mod false_examples;
mod fang_krum;
mod fang_trim;
mod free_rider;
mod gaussian;
mod huge;
mod inference_only;
mod inner;
mod inverse_gradient;
mod ipm;
mod ipm_opt;
mod label_flip;
mod label_flip_dynamic;
mod label_flip_mean;
mod late;
mod mimic;
mod min_max;
mod min_sum;
mod model_replacement;
mod neurotoxin;
mod non_finite;
mod none;
mod on_off;
mod oversize;
mod page;
mod pga;
mod pgd_backdoor;
mod plant;
mod prelude;
mod replay;
mod rop;
mod search;
mod sign_flip;
mod sign_flip_mean;
mod stale;
mod stealth;
mod sybil;
mod wrong_shape;
mod wrong_share;

/// The update an attack sends, in numbers of any type: what [`Attack::forge`] writes.
pub trait Formula: Attack {
    /// The forged update, as long as the honestly trained `own`; the default is `own` itself.
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], stream: &mut Stream) -> Vec<f64> {
        let _ = (view, stream);
        own.iter().map(|value| value.to_f64()).collect()
    }
}

/// [`Attack::forge`] of an attack that has a [`Formula`].
macro_rules! forge_by_formula {
    () => {
        fn forge(&self, view: &View<'_>, update: &mut [f32], stream: &mut Stream) {
            let sent = self.vector(view, update, stream);
            update.iter_mut().zip(sent).for_each(|(value, sent)| *value = sent as f32);
        }
    };
}
use forge_by_formula;

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

            /// The update it sends, in numbers of any type; `f32` gives what [`Attack::forge`] writes.
            pub fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], stream: &mut Stream) -> Vec<f64> {
                match self {
                    $(Self::$name(attack) => attack.vector(view, own, stream),)*
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
    sign_flip_mean: SignFlipMean,
    gaussian: Gaussian,
    constant: Constant,
    label_flip: LabelFlip,
    label_flip_dynamic: LabelFlipDynamic,
    label_flip_mean: LabelFlipMean,
    ipm: Ipm,
    ipm_opt: IpmOpt,
    alie: Alie,
    alie_opt: AlieOpt,
    mimic: Mimic,
    min_max: MinMax,
    min_sum: MinSum,
    fang_krum: FangKrum,
    fang_trim: FangTrim,
    pga: Pga,
    rop: Rop,
    inverse_gradient: InverseGradient,
    adaptive: Adaptive,
    backdoor: Backdoor,
    model_replacement: ModelReplacement,
    constrain_and_scale: ConstrainAndScale,
    dba: Dba,
    neurotoxin: Neurotoxin,
    pgd_backdoor: PgdBackdoor,
    sybil: Sybil,
    on_off: OnOff,
    free_rider: FreeRider,
    stale: Stale,
    inference_only: InferenceOnly,
    non_finite: NonFinite,
    huge: Huge,
    wrong_shape: WrongShape,
    dropout: Dropout,
    replay: Replay,
    wrong_share: WrongShare,
    late: Late,
    oversize: Oversize,
    false_examples: FalseExamples,
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
            Option::None => match info.parameters.first() {
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
    if let Ok(number) = text.parse::<u64>() {
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
                Option::None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(pairs)) if pairs.is_empty() => continue,
                Some(Value::Array(pairs)) => {
                    let pair = |pair: &Value| format!("{}>{}", pair[0], pair[1]);
                    pairs.iter().map(pair).collect::<Vec<_>>().join("+")
                }
                Some(Value::Object(_)) => match self.inner() {
                    Some(inner) => inner.short(),
                    Option::None => continue,
                },
                Some(Value::Number(number)) if number.is_f64() => {
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

impl AttackConfig {
    /// The attack that this one wraps.
    pub fn inner(&self) -> Option<&Inner> {
        match self {
            Self::OnOff(attack) => Some(&attack.attack),
            Self::Sybil(attack) => Some(&attack.attack),
            _ => Option::None,
        }
    }
}

impl Attack for AttackConfig {
    fn knowledge(&self) -> Knowledge {
        self.attack().knowledge()
    }

    fn wishes(&self) -> Wishes {
        self.attack().wishes()
    }

    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        self.attack().poison(data, stream)
    }

    fn poison_as(&self, colluder: Colluder, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        self.attack().poison_as(colluder, data, stream)
    }

    fn poison_round(
        &self,
        colluder: Colluder,
        lesson: &Lesson<'_>,
        data: &mut Dataset,
        stream: &mut Stream,
    ) -> Result<(), AttackError> {
        self.attack().poison_round(colluder, lesson, data, stream)
    }

    fn train(&self, lesson: &Lesson<'_>, view: &View<'_>, stream: &mut Stream) -> Option<Vec<f32>> {
        self.attack().train(lesson, view, stream)
    }

    fn forge(&self, view: &View<'_>, update: &mut [f32], stream: &mut Stream) {
        self.attack().forge(view, update, stream);
    }

    fn remember(&self, view: &View<'_>, update: &[f32]) -> Vec<f32> {
        self.attack().remember(view, update)
    }

    fn tamper(&self) -> Tamper {
        self.attack().tamper()
    }

    fn tamper_in(&self, round: u64) -> Tamper {
        self.attack().tamper_in(round)
    }

    fn backdoor(&self) -> Option<Trigger> {
        self.attack().backdoor()
    }

    fn check(&self) -> Result<(), AttackError> {
        self.attack().check()
    }
}

/// Refuses attacks nested too deeply.
fn check_depth(kind: &'static str, attack: &Inner) -> Result<(), AttackError> {
    if attack.depth() < Inner::DEEPEST {
        return Ok(());
    }
    let fix = format!("nest at most {} attacks", Inner::DEEPEST);
    Err(AttackError::Parameter { kind, parameter: "attack", value: attack.short(), fix })
}

/// Replaces a share of the coordinates, at least one, evenly spaced from the first.
fn replace_evenly(update: &mut [f64], fraction: f64, value: f64) {
    let dimension = update.len();
    let count = ((fraction * dimension as f64).round() as usize).clamp(1.min(dimension), dimension);
    for index in 0..count {
        update[index * dimension / count] = value;
    }
}

#[cfg(test)]
mod tests;
