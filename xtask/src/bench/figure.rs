//! One measured figure.

use std::fmt;

/// A figure beside what it was compared with in the same run.
pub(super) struct Figure {
    pub(super) name: &'static str,
    /// Median of our samples.
    pub(super) ours: f64,
    /// Median of the reference's samples, or a stated aim.
    pub(super) reference: f64,
    pub(super) unit: &'static str,
    pub(super) runs: usize,
    /// What the reference is.
    pub(super) against: &'static str,
}

impl Figure {
    /// Ours over the reference.
    pub(super) fn ratio(&self) -> f64 {
        self.ours / self.reference
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        serde_json::json!({
            "name": self.name, "ours": self.ours, "reference": self.reference, "ratio": self.ratio(),
            "unit": self.unit, "runs": self.runs, "against": self.against,
        })
        .to_string()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, ours, reference, unit, runs, against } = self;
        write!(f, "{name:<24} {ours:>10.2} {reference:>10.2} {:>7.2}  {against} ({unit}, {runs} samples)", self.ratio())
    }
}

/// The middle of the samples.
pub(super) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    match samples.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => samples[middle],
        _ => f64::midpoint(samples[middle - 1], samples[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![9.0, 1.0, 2.0, 4.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median(vec![]).is_nan());
    }
}
