//! One session: what it is doing at each look, and what it has said and made.
//!
//! Owns its JSON. Must not know HTTP. Invariant: a session's answers depend on its prompt and on the number of the
//! question alone.

use serde_json::{Value, json};

use super::directives::{Change, Directives, End};
use super::{REPOSITORY, message_for};

/// The commit that changes are based on; no repository has it.
const BASE: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) prompt: String,
    pub(super) directives: Directives,
    /// What was asked for at its creation.
    pub(super) body: Value,
    pub(super) created: String,
    /// How often it was looked at, and its activities were listed.
    pub(super) looks: u32,
    pub(super) listings: u32,
}

impl Session {
    /// What it is doing at its Nth look, counted from 1.
    fn state(&self, look: u32) -> &'static str {
        let look = look.saturating_sub(self.directives.late);
        if look <= self.directives.looks || self.directives.end == End::Never {
            return ["QUEUED", "PLANNING", "IN_PROGRESS"][(look.saturating_sub(1) as usize).min(2)];
        }
        match self.directives.end {
            _ if self.body["requirePlanApproval"] == true => "AWAITING_PLAN_APPROVAL",
            End::Completed | End::Never => "COMPLETED",
            End::Failed => "FAILED",
            End::Feedback => "AWAITING_USER_FEEDBACK",
            End::Plan => "AWAITING_PLAN_APPROVAL",
        }
    }

    /// The resource as it is at its Nth look.
    pub(super) fn resource(&self, look: u32) -> Value {
        let state = self.state(look);
        let mut resource = json!({
            "name": format!("sessions/{}", self.id),
            "id": self.id,
            "prompt": self.prompt,
            "title": self.body["title"].as_str().unwrap_or("a session"),
            "sourceContext": self.body["sourceContext"],
            "state": state,
            "url": format!("https://jules.google.com/session/{}", self.id),
            "createTime": self.created,
            "updateTime": self.created,
        });
        if state == "COMPLETED" {
            let mut outputs = Vec::new();
            if self.directives.pull_request {
                outputs.push(json!({"pullRequest": {
                    "url": format!("https://github.com/{REPOSITORY}/pull/{}", self.id),
                    "title": "a change",
                    "description": "by a session",
                }}));
            }
            if let Some(change) = &self.directives.change {
                outputs.push(json!({"changeSet": change_set(change)}));
            }
            resource["outputs"] = outputs.into();
        }
        resource
    }

    /// All that it has said and done, as it is once the session has stopped.
    pub(super) fn activities(&self) -> Vec<Value> {
        let mut activities = Vec::new();
        let mut add = |originator: &str, key: &str, value: Value| {
            let number = activities.len() + 1;
            activities.push(json!({
                "name": format!("sessions/{}/activities/a{number}", self.id),
                "id": format!("a{number}"),
                "createTime": self.created,
                "originator": originator,
                key: value,
            }));
        };
        let step = json!({"id": "s1", "title": "do it", "index": 0});
        add(
            "agent",
            "planGenerated",
            json!({"plan": {"id": "p1", "steps": [step]}}),
        );
        add("system", "planApproved", json!({"planId": "p1"}));
        for page in 1..self.directives.pages {
            let said = json!({"agentMessage": format!("working on page {page}")});
            add("agent", "agentMessaged", said);
        }
        if !self.directives.quiet {
            let said = match self.directives.end {
                End::Feedback => "which one do you mean?".to_owned(),
                _ => message_for(&self.prompt),
            };
            add("agent", "agentMessaged", json!({"agentMessage": said}));
        }
        let progress = json!({"title": "at work", "description": "on it"});
        add("agent", "progressUpdated", progress);
        match self.directives.end {
            End::Completed => add("system", "sessionCompleted", json!({})),
            End::Failed => {
                let reason = json!({"reason": "the tests do not pass"});
                add("system", "sessionFailed", reason);
            }
            End::Feedback | End::Plan | End::Never => {}
        }
        activities
    }
}

fn change_set(change: &Change) -> Value {
    let patch = match change {
        Change::New { path, text } => patch_for(path, text),
        Change::Misfit => {
            "diff --git a/no-such-file b/no-such-file\n--- a/no-such-file\n+++ b/no-such-file\n\
                           @@ -1 +1 @@\n-before\n+after\n"
                .to_owned()
        }
    };
    json!({
        "source": format!("sources/github/{REPOSITORY}"),
        "gitPatch": {
            "unidiffPatch": patch,
            "baseCommitId": BASE,
            "suggestedCommitMessage": "change it",
        },
    })
}

/// The patch of a session whose change is a new file with one line.
pub fn patch_for(path: &str, text: &str) -> String {
    format!(
        "diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{text}\n"
    )
}
