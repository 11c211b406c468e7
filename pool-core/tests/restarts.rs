//! A thousand starts and stops, and what they leave: alone in a process, since it counts the process's own files.

#[path = "process_pool/support.rs"]
#[allow(dead_code, reason = "this test uses a part of it")]
mod support;

use support::{LONG, launch, standin};
use toolpool_testkit::census::Holdings;

#[tokio::test]
async fn a_thousand_starts_and_stops_leave_nothing_behind() {
    const TOGETHER: usize = 20;
    let profile = || standin(&["on start fork 1 orphan setsid ignore TERM HUP"]);
    // What is made once is no leak: the spawning thread, the runtime's own files.
    launch(standin(&[]), TOGETHER).await.shutdown(LONG).await;
    let before = Holdings::now();
    for round in 0..1000 / TOGETHER {
        // Every tenth round has something to find.
        let profile = if round % 10 == 0 {
            profile()
        } else {
            standin(&[])
        };
        let report = launch(profile, TOGETHER).await.shutdown(LONG).await;
        assert_eq!(report.terminated.len(), TOGETHER);
    }
    assert_eq!(Holdings::now(), before);
}
