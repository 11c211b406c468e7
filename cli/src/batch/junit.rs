//! A batch's report as JUnit XML, for whatever shows the results of tests.
//!
//! Owns which item is a success, a failure, an error or skipped. Must not know where it is written. Invariant: one
//! testcase for each item, in the order of the input.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::report::{BatchItem, BatchReport, ItemEnd};

/// A failure is definite, an error is a turn in doubt; what never ran is skipped.
pub(super) fn xml(report: &BatchReport) -> String {
    let mut suite = TestSuite::new(&report.summary.tool);
    suite.set_time(Duration::from_secs_f64(report.summary.took_s));
    for item in &report.items {
        suite.add_test_case(case(item, &report.summary.tool));
    }
    let mut whole = Report::new("toolpool batch");
    whole.set_time(Duration::from_secs_f64(report.summary.took_s));
    whole.add_test_suite(suite);
    whole
        .to_string()
        .expect("text without control characters always has an XML form")
}

fn case(item: &BatchItem, tool: &str) -> TestCase {
    let mut status = match item.end {
        ItemEnd::Ok => TestCaseStatus::success(),
        ItemEnd::NotLanded | ItemEnd::Failed => {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        }
        ItemEnd::Indeterminate => TestCaseStatus::non_success(NonSuccessKind::Error),
        ItemEnd::Cancelled | ItemEnd::Expired | ItemEnd::NotStarted => TestCaseStatus::skipped(),
    };
    let cause = item.reply.as_ref().and_then(|reply| reply.cause);
    status.set_type(cause.unwrap_or_else(|| item.end.words()));
    status.set_message(
        item.complaint()
            .unwrap_or_else(|| item.end.words().to_owned()),
    );
    let mut case = TestCase::new(&item.item, status);
    case.set_classname(tool)
        .set_time(Duration::from_secs_f64(item.total_s));
    if item.from_earlier_run {
        case.add_property(Property::new("from_earlier_run", "true"));
    }
    if let Some(reply) = &item.reply {
        case.add_property(Property::new("turn", format!("t{}", reply.turn)));
        if let Some(instance) = &reply.instance {
            case.add_property(Property::new("instance", instance));
        }
        if !reply.text.is_empty() {
            case.set_system_out(&reply.text);
        }
    }
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::report::BatchSummary;
    use crate::documents::{BooksReport, TurnReply};

    fn item(name: &str, end: ItemEnd, reply: Option<TurnReply>) -> BatchItem {
        BatchItem {
            end,
            reply,
            total_s: 1.5,
            ..BatchItem::not_started(name.to_owned(), None)
        }
    }

    fn reply(
        outcome: &'static str,
        cause: Option<&'static str>,
        message: Option<&str>,
    ) -> TurnReply {
        TurnReply {
            turn: 7,
            outcome,
            cause,
            message: message.map(str::to_owned),
            retry_after_s: None,
            text: "an \x1b[31manswer\x1b[0m & more\x07".to_owned(),
            lossy: false,
            grade: None,
            attributed_by: None,
            instance: Some("main/2".to_owned()),
            tool: None,
            generation: 1,
            queued_s: 0.0,
            took_s: 1.0,
            first_output_s: None,
            usage: None,
            landed: None,
        }
    }

    #[test]
    fn every_end_of_an_item_has_its_place_in_the_xml() {
        let mut old = item("a.py", ItemEnd::Ok, Some(reply("completed", None, None)));
        old.from_earlier_run = true;
        let doubt = reply(
            "indeterminate",
            Some("crashed"),
            Some("exit code 3; \"last\" <line>"),
        );
        let failed = reply("failed", Some("rate_limit"), Some("slow down"));
        let report = BatchReport {
            summary: BatchSummary {
                batch: None,
                journal: None,
                tool: "aider".to_owned(),
                instances: 2,
                lands_on: None,
                total: 5,
                ok: 1,
                not_landed: 1,
                not_completed: 2,
                failed: 1,
                indeterminate: 1,
                cancelled: 0,
                expired: 0,
                not_started: 1,
                from_earlier_runs: 1,
                took_s: 3.0,
                books: BooksReport::default(),
                kept: Vec::new(),
            },
            items: vec![
                old,
                item("b.py", ItemEnd::NotLanded, None),
                item("c.py", ItemEnd::Failed, Some(failed)),
                item("d.py", ItemEnd::Indeterminate, Some(doubt)),
                item("e.py", ItemEnd::NotStarted, None),
            ],
        };
        insta::assert_snapshot!(xml(&report));
    }
}
