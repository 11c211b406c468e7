//! A stable order for the text format.
//!
//! Owns the order of families and series; the recorder keeps both in hash maps. Must not know any family. Invariant: the
//! lines of one series of a histogram stay together and in their order, and no line is lost.

/// Families by name, series by labels. Families in `text` are separated by empty lines.
pub(crate) fn in_order(text: &str) -> String {
    let mut families: Vec<&str> = text
        .split("\n\n")
        .map(str::trim)
        .filter(|family| !family.is_empty())
        .collect();
    families.sort_unstable_by_key(|family| name(family));
    let mut ordered = String::with_capacity(text.len());
    for family in families {
        write_family(family, &mut ordered);
    }
    ordered
}

fn write_family(family: &str, ordered: &mut String) {
    let is_histogram = type_line(family).is_some_and(|line| line.ends_with(" histogram"));
    let mut series: Vec<Vec<&str>> = Vec::new();
    let mut complete = true;
    for line in family.lines() {
        if line.starts_with('#') {
            ordered.push_str(line);
            ordered.push('\n');
            continue;
        }
        match series.last_mut() {
            Some(lines) if !complete => lines.push(line),
            _ => series.push(vec![line]),
        }
        // The count is the last line of a histogram's series.
        complete = !is_histogram || sample_name(line).ends_with("_count");
    }
    // The last line has the labels of the series and no others.
    series.sort_unstable_by_key(|lines| lines.last().copied());
    for line in series.iter().flatten() {
        ordered.push_str(line);
        ordered.push('\n');
    }
}

fn type_line(family: &str) -> Option<&str> {
    family.lines().find(|line| line.starts_with("# TYPE "))
}

fn name(family: &str) -> Option<&str> {
    type_line(family)?.split(' ').nth(2)
}

fn sample_name(line: &str) -> &str {
    line.split(['{', ' ']).next().unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_series_are_sorted_and_the_lines_of_a_histogram_stay_together() {
        let text = "\
# HELP b What b is.
# TYPE b counter
b{l=\"2\"} 1
b{l=\"1\"} 2

# TYPE a histogram
a_bucket{l=\"y\",le=\"9\"} 0
a_bucket{l=\"y\",le=\"+Inf\"} 1
a_sum{l=\"y\"} 10
a_count{l=\"y\"} 1
a_bucket{l=\"x\",le=\"9\"} 2
a_bucket{l=\"x\",le=\"+Inf\"} 2
a_sum{l=\"x\"} 3
a_count{l=\"x\"} 2

";
        let expected = "\
# TYPE a histogram
a_bucket{l=\"x\",le=\"9\"} 2
a_bucket{l=\"x\",le=\"+Inf\"} 2
a_sum{l=\"x\"} 3
a_count{l=\"x\"} 2
a_bucket{l=\"y\",le=\"9\"} 0
a_bucket{l=\"y\",le=\"+Inf\"} 1
a_sum{l=\"y\"} 10
a_count{l=\"y\"} 1
# HELP b What b is.
# TYPE b counter
b{l=\"1\"} 2
b{l=\"2\"} 1
";
        assert_eq!(in_order(text), expected);
        assert_eq!(in_order(""), "");
    }
}
