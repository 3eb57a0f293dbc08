//! A workload of your own: least absolute deviations, whose loss no built-in workload has.

use testudo_aggregate::RuleConfig;
use testudo_simulator::attacks;
use testudo_simulator::data::{Dataset, synthetic::Synthetic};
use testudo_simulator::federation::Federation;
use testudo_simulator::workload::{Evaluation, Scratch, Tensor, Workload, WorkloadConfig};

/// The parameters are a point; the loss is its mean absolute distance from the examples, coordinate by coordinate.
#[derive(Debug)]
struct Middle(usize);

impl Workload for Middle {
    fn tensors(&self) -> Vec<Tensor> {
        vec![Tensor { name: "point".to_owned(), shape: vec![self.0], offset: 0 }]
    }

    fn dimension(&self) -> usize {
        self.0
    }

    fn initial(&self, _seed: u64) -> Vec<f32> {
        vec![0.0; self.0]
    }

    fn loss_and_gradient(
        &self,
        point: &[f32],
        data: &Dataset,
        rows: &[usize],
        gradient: &mut [f32],
        _: &mut Scratch<f32>,
    ) -> f64 {
        gradient.fill(0.0);
        let mut loss = 0.0;
        for (coordinate, value) in rows.iter().flat_map(|&row| data.row(row).iter().enumerate()) {
            let off = point[coordinate] - value;
            gradient[coordinate] += off.signum() / rows.len() as f32;
            loss += f64::from(off.abs()) / rows.len() as f64;
        }
        loss
    }

    fn evaluate(&self, point: &[f32], data: &Dataset) -> Evaluation {
        let rows: Vec<usize> = (0..data.len()).collect();
        let loss = self.loss_and_gradient(point, data, &rows, &mut vec![0.0; self.0], &mut Scratch::default());
        Evaluation { accuracy: 1.0 / (1.0 + loss), loss }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let points = Synthetic::Points { examples: 1_000, width: 10, groups: 20, separation: 2.0 }.generate(1)?;
    let built_in = Federation::new(&points, 100, &WorkloadConfig::parse("quadratic")?, 20, 4, 1)?;
    let federation = Federation { workload: Box::new(Middle(10)), ..built_in };
    for kind in ["mean", "median"] {
        let outcome = federation.run(RuleConfig::with_byzantine(kind, 4)?.rule(), &attacks::parse("sign_flip")?, 20)?;
        println!("{kind:8} loss {:.2}", federation.workload.evaluate(&outcome.model, &federation.test).loss);
    }
    Ok(())
}
