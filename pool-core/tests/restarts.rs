//! A thousand starts and stops, and what they leave: alone in a process, since it counts the process's own files.

#[path = "process_pool/support.rs"]
#[allow(dead_code, reason = "this test uses a part of it")]
mod support;

use support::{LONG, launch, standin};

#[tokio::test]
async fn a_thousand_starts_and_stops_leave_nothing_behind() {
    const TOGETHER: usize = 20;
    let profile = || standin(&["on start fork 1 orphan setsid ignore TERM HUP"]);
    // What is made once is no leak: the spawning thread, the runtime's own files.
    launch(standin(&[]), TOGETHER).await.shutdown(LONG).await;
    let before = census();
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
    assert_eq!(census(), before);
}

/// Open files, threads and children of this process, zombies too.
fn census() -> (usize, usize, Vec<u32>) {
    let count = |folder: &str| std::fs::read_dir(folder).expect("a folder").count();
    let own = std::process::id();
    let children = std::fs::read_dir("/proc")
        .expect("a folder")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .and_then(|(_, fields)| fields.split(' ').nth(1)?.parse().ok())
                == Some(own)
        })
        .collect();
    (count("/proc/self/fd"), count("/proc/self/task"), children)
}
