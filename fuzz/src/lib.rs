//! Drives a protocol with what a fuzzer makes up.
//!
//! Owns the reading of an input as a story: what the tool writes, cut where the fuzzer likes, and what the shell does.
//! Must not know any protocol. Invariant: a panic here means that a protocol panicked or broke its promise.
//!
//! A fuzzer cannot guess a nonce, so the bytes 0xFE and 0xFD stand for the last one that the protocol wrote and the one
//! before it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::prompt::{Prompt, TurnId};
use toolpool_pool_core::protocol::{
    Action, Answer, Outbox, Protocol, RequestId, SideFile, Stream, TurnEvent,
};

thread_local! {
    static PROFILES: RefCell<BTreeMap<&'static str, ToolProfile>> = const { RefCell::new(BTreeMap::new()) };
}

/// The protocol of a built-in tool, through a whole story.
pub fn drive(tool: &'static str, story: &[u8]) {
    // To read the profile anew for each story takes longer than most stories.
    let protocol = PROFILES.with_borrow_mut(|profiles| {
        let profile = profiles
            .entry(tool)
            .or_insert_with(|| ToolProfile::builtin(tool).expect("built in"));
        profile.protocol(Path::new("/repo"))
    });
    let mut stage = Stage {
        protocol,
        out: Outbox::new(Instant::now()),
        tokens: VecDeque::new(),
        files: VecDeque::new(),
        question: None,
        turns: 0,
        running: None,
        ready: false,
        over: false,
    };
    stage.play(story);
}

struct Stage {
    protocol: Box<dyn Protocol>,
    out: Outbox,
    /// The nonces that the protocol wrote, the last one first.
    tokens: VecDeque<Vec<u8>>,
    /// The side files that it waits for.
    files: VecDeque<SideFile>,
    question: Option<RequestId>,
    turns: u64,
    running: Option<TurnId>,
    ready: bool,
    over: bool,
}

impl Stage {
    fn play(&mut self, mut story: &[u8]) {
        self.protocol.start(&mut self.out);
        self.look();
        while let Some((&act, rest)) = story.split_first() {
            if self.over {
                return;
            }
            story = self.act(act, rest);
            self.look();
        }
    }

    /// One act; answers what is left of the story.
    fn act<'a>(&mut self, act: u8, rest: &'a [u8]) -> &'a [u8] {
        match act {
            0 => self.submit(),
            1 if self.running.is_some() => self.protocol.interrupt(&mut self.out),
            2 => {
                let now = self.out.wakes_at();
                if let Some(now) = now {
                    self.out.wake_at(None);
                    self.out.set_now(now.max(self.out.now()));
                    self.protocol.tick(&mut self.out);
                }
            }
            3 => {
                let later = self.out.now() + Duration::from_millis(50);
                self.out.set_now(later);
            }
            4 => {
                if let Some(question) = self.question.take() {
                    self.protocol
                        .answer(&question, Answer::Allow, &mut self.out);
                }
            }
            _ => return self.say(act, rest),
        }
        rest
    }

    fn submit(&mut self) {
        if self.running.is_some() || !self.ready {
            return;
        }
        self.turns += 1;
        let mut prompt = Prompt::text("two\nlines");
        prompt.fresh = self.turns.is_multiple_of(2);
        let turn = TurnId(self.turns);
        if self.protocol.submit(turn, &prompt, &mut self.out).is_ok() {
            self.running = Some(turn);
        }
    }

    /// The next bytes come from the tool: from its output, its errors or its side file.
    fn say<'a>(&mut self, act: u8, rest: &'a [u8]) -> &'a [u8] {
        let Some((&length, rest)) = rest.split_first() else {
            return rest;
        };
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(length)));
        let bytes = self.with_tokens(bytes);
        match (act, self.files.pop_front()) {
            (5, _) => self.protocol.receive(Stream::Stderr, &bytes, &mut self.out),
            (_, Some(name)) => self.protocol.file(name, &bytes, &mut self.out),
            (_, None) => self.protocol.receive(Stream::Stdout, &bytes, &mut self.out),
        }
        rest
    }

    fn with_tokens(&self, bytes: &[u8]) -> Vec<u8> {
        let mut made = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let token = match byte {
                0xFE => self.tokens.front(),
                0xFD => self.tokens.get(1),
                _ => None,
            };
            match token {
                Some(token) => made.extend_from_slice(token),
                None => made.push(byte),
            }
        }
        made
    }

    /// Holds what the protocol did against its promises.
    fn look(&mut self) {
        let written = self.out.take_write();
        for word in written.split(|byte| !byte.is_ascii_hexdigit() && *byte != b'-') {
            if word.len() >= 32 {
                self.tokens.push_front(word.to_vec());
                self.tokens.truncate(4);
            }
        }
        for action in self.out.take_actions() {
            if let Action::ReadFile(name) = action {
                self.files.push_back(name);
                assert!(self.files.len() < 16, "it asks for file after file");
            }
        }
        while let Some(event) = self.out.next_event() {
            match event {
                _ if self.over => {}
                TurnEvent::Ready => {
                    assert!(!self.ready, "it became ready twice");
                    self.ready = true;
                }
                TurnEvent::Chunk { turn, .. } | TurnEvent::Retrying { turn, .. } => {
                    assert_eq!(Some(turn), self.running, "news of another turn");
                }
                TurnEvent::Waiting { turn, request, .. } => {
                    assert_eq!(Some(turn), self.running, "a question of another turn");
                    self.question = Some(request);
                }
                TurnEvent::TurnEnded { turn, .. } => {
                    assert_eq!(Some(turn), self.running, "the end of another turn");
                    self.running = None;
                }
                TurnEvent::Fault(_) => self.over = true,
                _ => {}
            }
        }
    }
}
