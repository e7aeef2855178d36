//! Whether a series of values grows: the line of least squares, and how sure its slope is.

/// The standard errors from a slope to the bounds of its 95 % interval, of 50 values or more.
const ERRORS: f64 = 2.01;

/// How much the value grows with each unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trend {
    pub(super) slope: f64,
    /// The upper bound of the 95 % interval.
    pub(super) upper: f64,
}

impl Trend {
    /// None of fewer than three points, or of points that stand in one place.
    pub(super) fn of(points: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        let points: Vec<(f64, f64)> = points.into_iter().collect();
        if points.len() < 3 {
            return None;
        }
        let number = points.len() as f64;
        let [x, y] = [|point: &(f64, f64)| point.0, |point: &(f64, f64)| point.1]
            .map(|of| points.iter().map(of).sum::<f64>() / number);
        let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        if spread <= 0.0 {
            return None;
        }
        let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
        let rest: f64 = points.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
        let error = (rest / (number - 2.0) / spread).sqrt();
        Some(Self { slope, upper: slope + ERRORS * error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_noise_widens_its_bound() {
        let line = Trend::of((0..10).map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x)))).unwrap();
        assert!((line.slope - 2.0).abs() < 1e-9 && (line.upper - 2.0).abs() < 1e-9, "{line:?}");
        let noise = |x: i32| if x % 2 == 0 { 1.0 } else { -1.0 };
        let flat = Trend::of((0..101).map(|x| (f64::from(x), noise(x)))).unwrap();
        // The error of the slope: 1 over the root of the spread, 85,850.
        assert!(flat.slope.abs() < 1e-3 && (flat.upper - flat.slope - 2.01 / 293.0).abs() < 1e-4, "{flat:?}");
    }

    #[test]
    fn two_points_and_points_in_one_place_have_no_trend() {
        assert_eq!(Trend::of([(1.0, 1.0), (2.0, 2.0)]), None);
        assert_eq!(Trend::of([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }
}
