//! One turn, from its prompt to the response.
//!
//! Owns what was seen of it. Must not know how it ends. Invariant: only messages for the user are passed on as the reply,
//! not the model's thoughts and not what it does with its tools.

use serde_json::Value;

use super::permission::Permissions;
use crate::outcome::Usage;
use crate::prompt::TurnId;
use crate::protocol::{Outbox, TurnEvent};

/// A running turn.
pub(super) struct Turn {
    pub(super) id: TurnId,
    pub(super) permissions: Permissions,
    /// The content blocks; null once they are sent.
    blocks: Value,
    is_command: bool,
    cancelled: bool,
    said: bool,
    used_tools: bool,
    /// Tokens sent and received, where the agent tells them for each of the model's messages.
    tokens: Option<(u64, u64)>,
    /// What the session had cost before.
    cost_before: f64,
}

/// What is known of a turn when it ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The agent was told to stop.
    pub(super) cancelled: bool,
    /// The agent said something.
    pub(super) said: bool,
    /// The agent used a tool, or asked to.
    pub(super) used_tools: bool,
    /// A permission was denied.
    pub(super) denied: bool,
    /// The prompt was one of the agent's own commands.
    pub(super) is_command: bool,
}

impl Turn {
    pub(super) fn new(id: TurnId, blocks: Value, is_command: bool) -> Self {
        Self {
            id,
            permissions: Permissions::default(),
            blocks,
            is_command,
            cancelled: false,
            said: false,
            used_tools: false,
            tokens: None,
            cost_before: 0.0,
        }
    }

    /// Takes the content blocks out, to be sent.
    pub(super) fn begin(&mut self, cost: f64) -> Value {
        self.cost_before = cost;
        self.blocks.take()
    }

    pub(super) fn cancel(&mut self) {
        self.cancelled = true;
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Takes an update of the turn's session.
    pub(super) fn receive(&mut self, update: &Value, out: &mut Outbox) {
        match update["sessionUpdate"].as_str() {
            Some("agent_message_chunk") => {
                self.count(&update["_meta"]["usage"]);
                if let Some(text) = update["content"]["text"].as_str()
                    && !text.is_empty()
                {
                    self.said = true;
                    out.emit(TurnEvent::Chunk {
                        turn: self.id,
                        bytes: text.as_bytes().to_vec(),
                    });
                }
            }
            Some("tool_call" | "tool_call_update") => self.used_tools = true,
            _ => {}
        }
    }

    /// Adds what one of the model's messages has used, as qwen tells it.
    fn count(&mut self, usage: &Value) {
        if let (Some(input), Some(output)) = (
            usage["inputTokens"].as_u64(),
            usage["outputTokens"].as_u64(),
        ) {
            let (inputs, outputs) = self.tokens.unwrap_or_default();
            self.tokens = Some((inputs.saturating_add(input), outputs.saturating_add(output)));
        }
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            cancelled: self.cancelled,
            said: self.said,
            used_tools: self.used_tools || self.permissions.were_asked(),
            denied: self.permissions.were_denied(),
            is_command: self.is_command,
        }
    }

    /// What the turn has used. gemini tells it for all requests of the turn, opencode for the last one only.
    pub(super) fn usage(&self, result: &Value, cost: f64) -> Option<Usage> {
        let pair = |usage: &Value, input: &str, output: &str| {
            Some((usage[input].as_u64()?, usage[output].as_u64()?))
        };
        let tokens = self
            .tokens
            .or_else(|| {
                pair(
                    &result["_meta"]["quota"]["token_count"],
                    "input_tokens",
                    "output_tokens",
                )
            })
            .or_else(|| pair(&result["usage"], "inputTokens", "outputTokens"));
        let cost = cost - self.cost_before;
        // A cost of zero means that the agent knows no price.
        let cost_usd = (cost > 0.0).then_some(cost);
        (tokens.is_some() || cost_usd.is_some()).then(|| Usage {
            input_tokens: tokens.map(|(input, _)| input),
            output_tokens: tokens.map(|(_, output)| output),
            cost_usd,
        })
    }
}
