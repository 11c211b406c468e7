//! What the pure parts cost: `cargo bench`. The whole path against a raw pipe is measured by `toolpool bench`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use toolpool::{Candidate, InstanceId, Prompt, RouteRequest, Routing, ToolProfile, TurnId};
use toolpool_pool_core::protocol::{Outbox, Stream};

fn candidates(count: usize) -> Vec<Candidate> {
    (0..count)
        .map(|place| Candidate {
            id: InstanceId(place),
            available: place % 3 != 0,
            in_flight: usize::from(place % 3 == 0),
            capacity: 1,
            pinned_waiting: 0,
            sessions: place % 2,
            busy_ratio: place as f64 / count as f64,
            idle_for: Duration::from_millis(place as u64),
        })
        .collect()
}

fn routing(criterion: &mut Criterion) {
    for count in [8, 100] {
        let candidates = candidates(count);
        for routing in Routing::ALL {
            let mut strategy = routing.strategy();
            let request = RouteRequest {
                session: Some("a session"),
                ..RouteRequest::default()
            };
            criterion.bench_function(&format!("route/{routing}/{count}"), |bencher| {
                bencher.iter(|| {
                    black_box(strategy.route(black_box(&request), black_box(&candidates)))
                });
            });
        }
    }
}

/// One turn of the `lines` protocol: encode a prompt, find the end of its reply.
fn lines(criterion: &mut Criterion) {
    let profile = ToolProfile::builtin("standin").expect("built in");
    for size in [64, 64 << 10] {
        let mut protocol = profile.protocol(std::path::Path::new("/"));
        let mut out = Outbox::new(Instant::now());
        protocol.start(&mut out);
        protocol.receive(Stream::Stdout, b"standin ready\n", &mut out);
        let prompt = Prompt::text("x".repeat(size));
        let mut turn = 0;
        criterion.bench_function(&format!("lines/turn/{size}B"), |bencher| {
            bencher.iter(|| {
                turn += 1;
                protocol
                    .submit(TurnId(turn), &prompt, &mut out)
                    .expect("accepted");
                let mut wire = out.take_write();
                // The stand-in's answer: the prompt's own bytes, then this turn's mark.
                let mark = wire[..32].to_vec();
                wire.extend_from_slice(b"\n");
                wire.extend_from_slice(&mark);
                wire.extend_from_slice(b" end\n");
                protocol.receive(Stream::Stdout, &wire, &mut out);
                while let Some(event) = out.next_event() {
                    black_box(event);
                }
            });
        });
    }
}

criterion_group!(cores, routing, lines);
criterion_main!(cores);
