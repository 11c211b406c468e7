//! Claude Code's dialect, as far as a turn, its questions and its interruption need it.

use serde_json::{Value, json};
use toolpool_cluster::{ClusterBuilder, ClusterManager};

use crate::tool::{Tool, Tools};

impl Tool {
    pub(crate) async fn say_json(&mut self, message: Value) {
        self.say(&format!("{message}\n")).await;
    }

    pub(crate) async fn confirm(&mut self, request: &Value) {
        let response =
            json!({"subtype": "success", "request_id": request["request_id"], "response": {}});
        self.say_json(json!({"type": "control_response", "response": response}))
            .await;
    }

    /// Answers the handshake.
    pub(crate) async fn begin(&mut self) {
        let hello = self.read_json().await;
        self.confirm(&hello).await;
    }

    /// Takes the next prompt up; its id is needed to end it.
    pub(crate) async fn take_up(&mut self) -> Value {
        let message = self.read_json().await;
        assert_eq!(message["type"], "user");
        self.say_json(json!({"type": "system", "subtype": "init", "session_id": "s"}))
            .await;
        message["uuid"].clone()
    }

    /// Asks whether it may run a command.
    pub(crate) async fn ask_to_run(&mut self, request: &str, command: &str) {
        self.say_json(json!({
            "type": "control_request", "request_id": request,
            "request": {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": command}},
        }))
        .await;
    }

    pub(crate) async fn take_back(&mut self, request: &str) {
        self.say_json(json!({"type": "control_cancel_request", "request_id": request}))
            .await;
    }

    /// What the next question was answered with: its own name for it, and allow or deny.
    pub(crate) async fn hear(&mut self) -> (String, String) {
        let message = self.read_json().await;
        let response = &message["response"];
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            word(&response["request_id"]),
            word(&response["response"]["behavior"]),
        )
    }

    pub(crate) async fn end_turn(&mut self, id: &Value, text: &str) {
        self.say_json(json!({
            "type": "result", "subtype": "success", "is_error": false, "result": text, "session_id": "s",
            "user_message_uuid": id, "terminal_reason": "completed",
        }))
        .await;
    }
}

/// One instance that speaks this dialect, ready.
pub(crate) async fn claude(
    change: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
) -> (ClusterManager, Tool, Tools) {
    let (builder, mut tools) = Tools::cluster_of("claude", 1);
    let start = async {
        let mut tool = tools.next().await;
        tool.begin().await;
        tool
    };
    let (cluster, tool) = tokio::join!(change(builder).into_future(), start);
    let cluster = cluster.unwrap_or_else(|error| panic!("{error}"));
    (cluster, tool, tools)
}
