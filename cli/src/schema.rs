//! `toolpool schema`: the JSON schemas of everything that is printed as JSON.
//!
//! Owns the list of documents. Must not know what is in them. Invariant: what a command prints as JSON is listed here.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, schema_for};
use serde_json::{Value, json};

use crate::batch::{BatchItem, BatchSummary, Plan, Report};
use crate::bench::Figures;
use crate::console::{Document, Envelope, print};
use crate::doctor::DoctorReport;
use crate::documents::{TurnReplies, TurnReply, TurnStarted, TurnText};
use crate::error::{CliError, ErrorReport};
use crate::events::EventDocument;
use crate::exit::Exit;
use crate::history::{
    BatchDocument, BatchList, PromptDetail, PromptDocument, PromptList, Pruned, SqlRow, SqlTable,
};
use crate::logs::{LifeDocument, LifeList};
use crate::rehearse::RehearsalReport;
use crate::resolve::Resolved;
use crate::tools::{ToolDetail, ToolList, ToolTest};

#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {
    /// The kind of one document, as in its field `kind`, or `error`
    kind: Option<String>,
}

pub(crate) fn run(args: &SchemaArgs) -> Result<Exit, CliError> {
    let all = all();
    let value = match &args.kind {
        None => json!(all),
        Some(kind) => match all.get(kind.as_str()) {
            Some(schema) => schema.clone(),
            None => {
                let known: Vec<_> = all.keys().copied().collect();
                return Err(CliError::usage(
                    "unknown_kind",
                    format!(
                        "there is no document of kind {kind:?}; there are: {}",
                        known.join(", ")
                    ),
                ));
            }
        },
    };
    let text = serde_json::to_string_pretty(&value).expect("a schema is JSON");
    print(format!("{text}\n").as_bytes())?;
    Ok(Exit::Done)
}

fn all() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        of::<TurnReply>(),
        of::<TurnReplies>(),
        of::<TurnStarted>(),
        of::<TurnText>(),
        of::<Report>(),
        of::<Plan>(),
        of::<BatchItem>(),
        of::<BatchSummary>(),
        of::<PromptList>(),
        of::<PromptDocument>(),
        of::<PromptDetail>(),
        of::<SqlTable>(),
        of::<SqlRow>(),
        of::<BatchList>(),
        of::<BatchDocument>(),
        of::<Pruned>(),
        of::<LifeList>(),
        of::<LifeDocument>(),
        of::<EventDocument>(),
        of::<Resolved>(),
        of::<ToolList>(),
        of::<ToolDetail>(),
        of::<ToolTest>(),
        of::<DoctorReport>(),
        of::<Figures>(),
        of::<RehearsalReport>(),
        ("error", schema_for!(ErrorReport<'_>).to_value()),
    ])
}

/// The schema of a document in its envelope, whose first two fields are constant.
fn of<T: Document + JsonSchema>() -> (&'static str, Value) {
    let mut schema: Schema = schema_for!(Envelope<T>);
    if let Some(properties) = schema.get_mut("properties") {
        properties["v"] = json!({ "const": 1 });
        properties["kind"] = json!({ "const": T::KIND });
    }
    schema.insert("title".to_owned(), json!(T::KIND));
    (T::KIND, schema.to_value())
}

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn every_schema_names_its_kind_and_requires_it() {
        for (kind, schema) in all() {
            let required: Vec<_> = schema["required"]
                .as_array()
                .expect("required")
                .iter()
                .collect();
            if kind == "error" {
                assert!(required.iter().any(|name| **name == "error"));
            } else {
                assert_eq!(schema["properties"]["kind"]["const"], kind);
                assert!(required.iter().any(|name| **name == "kind"), "{kind}");
            }
        }
    }
}
