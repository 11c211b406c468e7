//! A check of the structure of JSON against the part of JSON Schema that our schemas use.

use serde_json::Value;

/// What is wrong with the value, if anything. Unlike JSON Schema itself, a field that no schema knows is wrong.
pub(crate) fn check(value: &Value, schema: &Value) -> Result<(), String> {
    inspect(value, schema, schema, "$")
}

fn inspect(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    if schema == &Value::Bool(true) || schema == &serde_json::json!({}) {
        return Ok(());
    }
    if let Some(name) = schema["$ref"].as_str() {
        let name = name
            .strip_prefix("#/$defs/")
            .ok_or_else(|| format!("{at}: unknown reference {name}"))?;
        return inspect(value, &root["$defs"][name], root, at);
    }
    for any in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[any].as_array() {
            let tried: Vec<_> = choices
                .iter()
                .map(|choice| inspect(value, choice, root, at))
                .collect();
            if !tried.iter().any(Result::is_ok) {
                return Err(format!("{at}: none of {tried:?}"));
            }
        }
    }
    if let Some(constant) = schema.get("const")
        && constant != value
    {
        return Err(format!("{at}: {value} is not {constant}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{at}: {value} is none of {words:?}"));
    }
    of_type(value, &schema["type"], at)?;
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for (place, value) in values.iter().enumerate() {
            inspect(value, items, root, &format!("{at}[{place}]"))?;
        }
    }
    if let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object())
    {
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            if !fields.contains_key(name) {
                return Err(format!("{at}: {name} is missing"));
            }
        }
        for (name, value) in fields {
            let known = properties
                .get(name)
                .or_else(|| schema.get("additionalProperties"))
                .filter(|known| **known != Value::Bool(false))
                .ok_or_else(|| format!("{at}: {name} is in no schema"))?;
            inspect(value, known, root, &format!("{at}.{name}"))?;
        }
    }
    Ok(())
}

fn of_type(value: &Value, types: &Value, at: &str) -> Result<(), String> {
    let is = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("null") => value.is_null(),
        _ => false,
    };
    let fits = match types {
        Value::Null => true,
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    };
    if fits {
        Ok(())
    } else {
        Err(format!("{at}: {value} is no {types}"))
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    use serde_json::json;
    let schema = json!({
        "type": "object",
        "required": ["a"],
        "properties": { "a": { "type": "integer" }, "b": { "anyOf": [{ "$ref": "#/$defs/B" }, { "type": "null" }] } },
        "$defs": { "B": { "type": "string", "enum": ["x"] } }
    });
    for (value, good) in [
        (json!({ "a": 1 }), true),
        (json!({ "a": 1, "b": "x" }), true),
        (json!({ "a": 1, "b": null }), true),
        (json!({ "a": 1, "b": "y" }), false),
        (json!({ "b": "x" }), false),
        (json!({ "a": 1.5 }), false),
        (json!({ "a": 1, "c": 1 }), false),
        (json!([]), false),
    ] {
        assert_eq!(check(&value, &schema).is_ok(), good, "{value}");
    }
}
