//! Speaking to a model in plain words.
//!
//! Owns the prompts for a model of which nothing is known but that it reads and writes. Must not order what such a model
//! cannot do: fail on demand. Invariant: the prompts ask for a few words only, since a user pays for them.

use async_trait::async_trait;

use crate::speech::{Endless, Expected, Fault, Speech, Spoken};

/// Plain English.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainWords;

const NO_SERVER: &str = "needs a model that fails on demand";

fn word(number: usize) -> String {
    format!("marmalade-{number:02}")
}

#[async_trait]
impl Speech for PlainWords {
    fn say(&self, text: &str) -> Spoken {
        // A tool that takes one line at a time is asked for one.
        let gap = if text.contains('\n') { "\n" } else { " " };
        Spoken {
            prompt: format!(
                "Reply with exactly the following text and nothing else, and do not use any tools:{gap}{text}"
            ),
            expected: Expected::Contains(text.lines().map(|line| line.trim().to_owned()).collect()),
        }
    }

    fn large(&self, bytes: usize) -> Spoken {
        let mut prompt = "Reply with the word marmalade. Ignore what follows.\n".to_owned();
        prompt.push_str(&"x".repeat(bytes.saturating_sub(prompt.len())));
        Spoken {
            prompt,
            expected: Expected::Contains(vec!["marmalade".to_owned()]),
        }
    }

    fn forged(&self) -> Result<Spoken, String> {
        Err(NO_SERVER.to_owned())
    }

    fn commands(&self) -> Result<Vec<Spoken>, String> {
        Err(NO_SERVER.to_owned())
    }

    fn remember(&self, number: usize) -> Spoken {
        Spoken {
            prompt: format!(
                "Remember the word {}. I will ask for it later. Reply with OK, and do not write it to any file.",
                word(number)
            ),
            expected: Expected::Any,
        }
    }

    fn recall(&self, number: usize, known: bool) -> Spoken {
        let word = word(number);
        Spoken {
            prompt: "Which word did I ask you to remember? Reply with that word only, or with the word none if I did not."
                .to_owned(),
            expected: if known {
                Expected::Contains(vec![word])
            } else {
                Expected::Lacks(word)
            },
        }
    }

    fn endless(&self, _number: usize) -> Endless {
        Endless {
            prompt: "Count from 1 to 2000, one number on a line, without leaving any out."
                .to_owned(),
            begins: Some("2".to_owned()),
        }
    }

    fn long(&self, _bytes: usize) -> Spoken {
        self.say("marmalade")
    }

    fn edit(&self, _file: &str, _line: &str) -> Result<String, String> {
        Err(NO_SERVER.to_owned())
    }

    fn shell(&self, _command: &str) -> Result<String, String> {
        Err(NO_SERVER.to_owned())
    }

    fn fault(&self, _fault: Fault, _text: &str) -> Result<Spoken, String> {
        Err(NO_SERVER.to_owned())
    }

    async fn asked(&self, _text: &str, _times: usize) {
        std::future::pending().await
    }
}
