//! Medians, marks, and figures as a person reads them.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

/// Rows closer than this to the best are ties: repeated comparisons on a quiet machine differ by as much.
pub const TIE: f64 = 0.07;

/// Sorts; the mean of the two in the middle where there is no middle one.
///
/// # Panics
/// Without values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// `exp(mean(ln))`; 1 without values.
pub fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| {
        (sum + value.ln(), count + 1)
    });
    (sum / f64::from(count.max(1))).exp()
}

/// What stands behind the figure of a winner, of a tie, and of others.
pub fn mark(best: bool, tie: bool) -> &'static str {
    match (best, tie) {
        (true, _) => " *",
        (false, true) => " =",
        (false, false) => "",
    }
}

/// A cell in the colour of its mark.
pub fn styled(text: String, mark: &str) -> Cell {
    match mark {
        " *" => Cell::new(text)
            .add_attribute(Attribute::Bold)
            .fg(Color::Green),
        " =" => Cell::new(text).fg(Color::Green),
        _ => Cell::new(text),
    }
}

/// An empty table with lines between its rows.
pub fn new_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// Three figures with a unit: 12.3M, 45.6k, 789.
pub fn count(value: f64) -> String {
    let (scaled, unit) = match value {
        million if million >= 1e6 => (million / 1e6, "M"),
        thousand if thousand >= 1e3 => (thousand / 1e3, "k"),
        few => (few, ""),
    };
    let digits = if scaled >= 100.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert!(close(median(&mut [3.0, 1.0, 2.0]), 2.0));
        assert!(close(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5));
        assert!(close(median(&mut [7.0]), 7.0));
    }

    #[test]
    fn counts_have_three_figures() {
        assert_eq!(count(12_345_678.0), "12.3M");
        assert_eq!(count(1_234.0), "1.23k");
        assert_eq!(count(299.6), "300");
    }

    #[test]
    fn winner_and_ties_are_marked() {
        assert_eq!(mark(true, true), " *");
        assert_eq!(mark(false, true), " =");
        assert_eq!(mark(false, false), "");
    }
}
