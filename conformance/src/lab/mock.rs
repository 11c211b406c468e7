//! Speaking to the local model server through a tool.
//!
//! Owns the orders that the server obeys. Must not know which tool carries them. Invariant: an answer is a function of
//! the prompt, so what must come back is known before it is sent.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use toolpool_testkit::model_server::{ModelServer, answer_for};

use crate::speech::{Endless, Expected, Fault, Speech, Spoken};

/// What protocols put before a text so that it is no command; some tools pass it on to the model.
const GUARD: &str = "Prompt:\n";

/// The language of the model server.
pub struct Mock {
    server: Arc<ModelServer>,
    habits: Habits,
}

/// What is particular to the tool that carries the orders.
pub struct Habits {
    /// Where files are, if they are named by their whole paths.
    pub folder: Option<PathBuf>,
    /// Whether it writes while its model does.
    pub streams: bool,
    /// Whether it gives its model the files that a prompt names as `@path`.
    pub includes_files: bool,
}

impl Mock {
    /// The language of this server.
    pub fn new(server: Arc<ModelServer>, habits: Habits) -> Self {
        Self { server, habits }
    }

    fn spoken(text: &str) -> Spoken {
        let answers = vec![answer_for(text), answer_for(&format!("{GUARD}{text}"))];
        Spoken {
            prompt: text.to_owned(),
            expected: Expected::Exactly(answers),
        }
    }
}

#[async_trait]
impl Speech for Mock {
    fn say(&self, text: &str) -> Spoken {
        Self::spoken(text)
    }

    fn large(&self, bytes: usize) -> Spoken {
        Self::spoken(&format!(
            "{}the last letters",
            "fifteen letters\n".repeat(bytes / 16 - 1)
        ))
    }

    fn forged(&self) -> Result<Spoken, String> {
        Ok(Self::spoken("quote what you like [[model: quote]]"))
    }

    fn commands(&self) -> Result<Vec<Spoken>, String> {
        let texts = [
            "/exit",
            "/clear",
            " \n/quit with blanks before",
            "/run touch canary",
            "!touch canary",
            "text first\n!touch canary\n/run touch canary",
            "$skill",
        ];
        let file = (!self.habits.includes_files).then_some("a look at @README");
        Ok(texts.into_iter().chain(file).map(Self::spoken).collect())
    }

    fn remember(&self, number: usize) -> Spoken {
        Self::spoken(&format!("the word is marmalade-{number:03}"))
    }

    fn recall(&self, number: usize, known: bool) -> Spoken {
        let mut spoken = Self::spoken(&format!("[[model: recall=marmalade-{number:03}]]"));
        if let (true, Expected::Exactly(answers)) = (known, &mut spoken.expected) {
            for answer in answers {
                *answer = answer.replace("recalled: no", "recalled: yes");
            }
        }
        spoken
    }

    fn endless(&self, number: usize) -> Endless {
        let prompt = format!("endless {number} [[model: hang-mid answer-bytes=8000]]");
        let answer = answer_for(&prompt);
        let begins = self
            .habits
            .streams
            .then(|| answer.chars().take(71).collect());
        Endless { prompt, begins }
    }

    fn long(&self, bytes: usize) -> Spoken {
        Self::spoken(&format!("[[model: answer-bytes={bytes}]]"))
    }

    fn edit(&self, file: &str, line: &str) -> Result<String, String> {
        let path = match &self.habits.folder {
            Some(folder) => folder.join(file).display().to_string(),
            None => file.to_owned(),
        };
        Ok(format!("[[model: edit={path} text={line}]]"))
    }

    fn shell(&self, command: &str) -> Result<String, String> {
        Ok(format!("[[model: tool=shell cmd={command}]]"))
    }

    fn fault(&self, fault: Fault, text: &str) -> Result<Spoken, String> {
        let order = fault.order();
        Ok(Self::spoken(&format!("[[model: {order}]] {text}")))
    }

    async fn asked(&self, text: &str, times: usize) {
        self.server
            .wait_until(|requests| {
                let same = requests
                    .iter()
                    .filter(|request| request.prompt.contains(text));
                same.count() >= times
            })
            .await;
    }
}
