//! A device that fits a softmax regression on data of its own:
//! `cargo run -p testudo-client --example trainer -- http://127.0.0.1:8443 task device-7`.
//!
//! The task's model must hold a matrix `[classes, features]` and a vector `[classes]`, under any names and in any
//! order. The data is synthetic: one cloud of points per class, the same on every device, drawn anew by name.

use testudo_client::{Client, Identity, Layout, Round, Summary, TrainError, Trainer, Update, Verdict};

const EXAMPLES: usize = 200;
const STEPS: usize = 10;
const LEARNING_RATE: f32 = 0.1;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(task), Some(name)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: trainer <url> <task> <name>".into());
    };
    let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let client = Client::builder(url).identity(Identity::named(name)?).connect().await?;
    let summary = client.run(task, Softmax { seed }).await?;
    println!("{} rounds, {} accepted, {:?}", summary.rounds, summary.accepted, summary.ended);
    Ok(())
}

struct Softmax {
    seed: u64,
}

/// Where the matrix and the vector lie in the flat vector.
struct Shape {
    classes: usize,
    features: usize,
    weight: usize,
    bias: usize,
}

impl Trainer for Softmax {
    async fn train(&mut self, round: &Round) -> Result<Update, TrainError> {
        let shape = Shape::of(round.layout())?;
        let model = round.shared_model();
        let mut random = Random(self.seed);
        let number = round.number();
        let (delta, loss) = tokio::task::spawn_blocking(move || fit(&shape, model.parameters(), &mut random)).await?;
        println!("round {number}: loss {loss:.4} on {EXAMPLES} examples");
        Ok(Update::delta(delta).examples(EXAMPLES as u64))
    }

    fn verdict(&mut self, round: u64, verdict: Verdict) {
        println!("round {round}: {verdict}");
    }

    fn finished(&mut self, summary: &Summary) {
        println!("the task has ended after {} rounds of this device", summary.rounds);
    }
}

impl Shape {
    fn of(layout: &Layout) -> Result<Self, TrainError> {
        let (mut matrix, mut vector, mut start) = (None, None, 0);
        for tensor in layout.tensors() {
            match tensor.shape[..] {
                [classes, features] => matrix = Some((classes as usize, features as usize, start)),
                [classes] => vector = Some((classes as usize, start)),
                _ => {}
            }
            start += tensor.coordinates().unwrap_or(0) as usize;
        }
        match (matrix, vector) {
            (Some((classes, features, weight)), Some((length, bias)))
                if classes == length && layout.tensors().len() == 2 =>
            {
                Ok(Self { classes, features, weight, bias })
            }
            _ => Err("the model is not a matrix [classes, features] and a vector [classes]".into()),
        }
    }
}

/// Gradient descent from `start`; the delta and the loss before the first step.
fn fit(shape: &Shape, start: &[f32], random: &mut Random) -> (Vec<f32>, f32) {
    let Shape { classes, features, weight, bias } = *shape;
    let examples: Vec<(usize, Vec<f32>)> = (0..EXAMPLES)
        .map(|i| {
            let class = i % classes;
            let centre = |feature| Random((class * features + feature) as u64).normal() * 2.0;
            (class, (0..features).map(|feature| centre(feature) + random.normal()).collect())
        })
        .collect();
    let mut parameters = start.to_vec();
    let mut first_loss = None;
    for _ in 0..STEPS {
        let mut gradient = vec![0.0; parameters.len()];
        let mut loss = 0.0;
        for (class, point) in &examples {
            let scores: Vec<f32> = (0..classes)
                .map(|row| {
                    let row_weights = &parameters[weight + row * features..][..features];
                    parameters[bias + row] + row_weights.iter().zip(point).map(|(w, x)| w * x).sum::<f32>()
                })
                .collect();
            let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f32 = scores.iter().map(|score| (score - highest).exp()).sum();
            loss -= scores[*class] - highest - total.ln();
            for (row, score) in scores.iter().enumerate() {
                let error = (score - highest).exp() / total - if row == *class { 1.0 } else { 0.0 };
                gradient[bias + row] += error;
                for (slot, x) in gradient[weight + row * features..][..features].iter_mut().zip(point) {
                    *slot += error * x;
                }
            }
        }
        first_loss.get_or_insert(loss / EXAMPLES as f32);
        for (parameter, slope) in parameters.iter_mut().zip(&gradient) {
            *parameter -= LEARNING_RATE * slope / EXAMPLES as f32;
        }
    }
    (parameters.iter().zip(start).map(|(new, old)| new - old).collect(), first_loss.unwrap_or(0.0))
}

/// SplitMix64 (Steele, Lea and Flood 2014): enough for synthetic data.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Sum of twelve even draws minus six: close enough to normal.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32).sum::<f32>() - 6.0
    }
}
