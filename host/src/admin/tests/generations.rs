//! The routes that choose a plugin's generation.

use serde_json::json;

use super::port;

#[test]
fn a_choice_of_a_generation_answers_with_the_plugin_or_with_a_problem_that_names_its_kind() {
    let port = port(false);
    let (status, plugin) = port.post("/api/v1/plugins/print/rollback", &[]);
    assert_eq!((status, &plugin["name"]), (200, &json!("print")), "{plugin}");
    let canary = json!({"file": "new.wasm", "percent": 7, "group": "g", "slower": 2});
    let (status, plugin) = port.post_json("/api/v1/plugins/print/canary", &canary);
    assert_eq!((status, &plugin["name"]), (200, &json!("print")), "{plugin}");
    let (status, plugin) =
        port.post_json("/api/v1/plugins/print/shadow", &json!({"generation": "77", "group": "g"}));
    assert_eq!((status, &plugin["name"]), (200, &json!("print")), "{plugin}");
    let (status, differences) = port.get("/api/v1/plugins/print/differences");
    assert_eq!((status, &differences[0]["record"]), (200, &json!("my-topic/0@7")));
    for (path, body, status, code) in [
        ("print/rollback", json!({"generation": "77"}), 404, "unknown-generation"),
        ("print/rollback", json!({"to": "77"}), 400, "invalid-parameter"),
        ("none/rollback", json!({}), 404, "unknown-plugin"),
        ("print/canary", json!({"file": "new.wasm"}), 400, "invalid-parameter"),
        ("print/canary", json!({"file": "new.wasm", "percent": 101}), 400, "invalid-parameter"),
        ("print/canary", json!({"percent": 5}), 400, "invalid-parameter"),
        ("print/promote", json!({"generation": "0e0e"}), 409, "not-tried"),
        ("print/shadow", json!({"generation": "77", "percent": 5}), 400, "invalid-parameter"),
        ("print/shadow", json!({}), 400, "invalid-parameter"),
        ("print/abort", json!({"reason": "it is slow"}), 409, "generation-refused"),
    ] {
        let path = format!("/api/v1/plugins/{path}");
        let (answered, problem) = port.post_json(&path, &body);
        assert_eq!(
            (answered, &problem["code"]),
            (status, &json!(code)),
            "{path} {body}: {problem}"
        );
    }
}
