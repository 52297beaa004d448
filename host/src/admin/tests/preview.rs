//! The route of a look at where records would go.

use serde_json::json;

use super::port;

const PATH: &str = "/api/v1/key-preview";

#[test]
fn the_newest_records_of_a_topic_are_looked_at_and_given_ones_as_they_would_be_sent() {
    let port = port(false);
    let (status, found) = port.post_json(PATH, &json!({"topic": "my-topic", "caller": true}));
    assert_eq!(status, 200, "{found}");
    assert_eq!((&found["serving"], &found["other"]), (&json!("caller"), &json!("caller")));
    assert_eq!((&found["previewed"], &found["moved"]), (&json!(3), &json!(0)), "{found}");
    assert_eq!(found["records"][0]["place"], "my-topic/0@0");
    let asked = json!({"topic": "my-topic", "caller": true, "records": [
        {"key": "21", "value": {"a": 1.0}}, {"value": null}, {"value": "", "partition": 1}, {"value": "", "partition": 3},
    ]});
    let (status, found) = port.post_json(PATH, &asked);
    assert_eq!(status, 200, "{found}");
    let partitions: Vec<_> =
        (0..4).map(|n| found["records"][n]["other"]["partition"].clone()).collect();
    assert_eq!(partitions, [json!(0), json!(null), json!(1), json!(null)], "{found}");
    assert_eq!((&found["refused"], &found["serving_spread"]), (&json!(1), &json!(1)), "{found}");
    assert_eq!(found["records"][3]["moves"], json!(null));
}

#[test]
fn a_look_that_is_asked_for_wrongly_says_what_would_do() {
    let port = port(false);
    for (body, status, part) in [
        (json!({"caller": true}), 400, "topic"),
        (json!({"topic": "my-topic"}), 400, "give one to compare with"),
        (json!({"topic": "my-topic", "caller": true, "generation": "77"}), 400, "give one"),
        (json!({"topic": "my-topic", "caller": true, "last": 0}), 400, "from 1 to 1000, not 0"),
        (json!({"topic": "my-topic", "caller": true, "last": 1001}), 400, "from 1 to 1000"),
        (json!({"topic": "my-topic", "caller": true, "records": []}), 400, "from 1 to 1000"),
        (json!({"topic": "my-topic", "caller": true, "records": [{}]}), 400, "records/0: /value"),
        (
            json!({"topic": "my-topic", "caller": true, "records": [{"value": 1, "topic": "b"}]}),
            400,
            "of topic \"b\"",
        ),
        (json!({"topic": "my-topic", "file": "a.wasm"}), 409, "no key selector"),
        (json!({"topic": "none", "caller": true}), 404, "no topic"),
    ] {
        let (answered, problem) = port.post_json(PATH, &body);
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(answered == status && detail.contains(part), "{body}: {problem}");
    }
    let (status, problem) = port.get(PATH);
    assert_eq!((status, &problem["code"]), (405, &json!("wrong-method")));
}
