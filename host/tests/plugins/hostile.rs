//! Components made of text, each wrong in its own way.

/// A handler whose `handle` and `init` are these core instructions, with `imports` and the core module's `fields`
/// besides. Both return a pointer to their result; at 0 is an `ok` with an empty list, or with nothing.
pub(crate) struct Handler<'a> {
    pub(crate) imports: &'a str,
    pub(crate) fields: &'a str,
    pub(crate) handle: &'a str,
    pub(crate) init: &'a str,
}

/// One that handles everything and emits nothing.
pub(crate) const GOOD: Handler<'_> =
    Handler { imports: "", fields: "", handle: "i32.const 0", init: "i32.const 0" };
/// Runs for ever.
pub(crate) const LOOP: &str = "(loop (br 0)) unreachable";
/// Grows its memory until it may not, then traps.
pub(crate) const HOARD: &str =
    "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";

impl Handler<'_> {
    /// Its binary.
    pub(crate) fn component(&self) -> Vec<u8> {
        self.component_with("")
    }

    /// Its binary, with `arguments` for the core module's own imports.
    pub(crate) fn component_with(&self, arguments: &str) -> Vec<u8> {
        let Self { imports, fields, handle, init } = self;
        let text = format!(
            r#"(component
  (import "keyway:plugin/types@0.1.0" (instance $types
    (type $h (record (field "key" string) (field "value" (option (list u8)))))
    (export "header" (type $header (eq $h)))
    (type $m (record (field "topic" string) (field "partition" u32) (field "offset" u64)
      (field "timestamp" (option u64)) (field "key" (option (list u8))) (field "value" (option (list u8)))
      (field "headers" (list $header)) (field "attempt" u32)))
    (export "message" (type $message (eq $m)))
    (type $o (record (field "topic" (option string)) (field "partition" (option u32))
      (field "timestamp" (option u64)) (field "key" (option (list u8))) (field "value" (option (list u8)))
      (field "headers" (list $header))))
    (export "outgoing" (type $outgoing (eq $o)))
    (type $r (record (field "reason" string) (field "after" (option u32))))
    (export "retry" (type $retry (eq $r)))
    (type $f (variant (case "retry" $retry) (case "reject" string)))
    (export "failure" (type $failure (eq $f)))))
  {imports}
  (alias export $types "message" (type $message))
  (alias export $types "outgoing" (type $outgoing))
  (alias export $types "failure" (type $failure))
  (core module $module
    {fields}
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
    (func (export "handle")
      (param i32 i32 i32 i64 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {handle})
    (func (export "init") (result i32) {init}))
  (core instance $core (instantiate $module {arguments}))
  (func $handle (param "message" $message) (result (result (list $outgoing) (error $failure)))
    (canon lift (core func $core "handle") (memory (core memory $core "memory"))
      (realloc (core func $core "realloc"))))
  (func $init (result (result (error string)))
    (canon lift (core func $core "init") (memory (core memory $core "memory"))
      (realloc (core func $core "realloc"))))
  (instance $handler (export "handle" (func $handle)))
  (export "keyway:plugin/handler@0.1.0" (instance $handler))
  (instance $lifecycle (export "init" (func $init)))
  (export "keyway:plugin/lifecycle@0.1.0" (instance $lifecycle)))"#
        );
        wat::parse_str(text).unwrap()
    }
}

/// A selector whose `select` is these core instructions, over a memory with `data` at its beginning.
pub(crate) fn selector(data: &str, select: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
  (import "keyway:plugin/types@0.1.0" (instance $types
    (type $h (record (field "key" string) (field "value" (option (list u8)))))
    (export "header" (type $header (eq $h)))
    (type $c (record (field "topic" string) (field "timestamp" (option u64)) (field "key" (option (list u8)))
      (field "value" (option (list u8))) (field "headers" (list $header))))
    (export "candidate" (type $candidate (eq $c)))
    (type $t (variant (case "spread") (case "key" (list u8)) (case "partition" u32)))
    (export "target" (type $target (eq $t)))))
  (alias export $types "candidate" (type $candidate))
  (alias export $types "target" (type $target))
  (core module $module
    (memory (export "memory") 2)
    (data (i32.const 0) "{data}")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
    (func (export "select") (param i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {select}))
  (core instance $core (instantiate $module))
  (func $select (param "candidate" $candidate) (param "partitions" u32)
    (result (result $target (error string)))
    (canon lift (core func $core "select") (memory (core memory $core "memory"))
      (realloc (core func $core "realloc"))))
  (instance $selector (export "select" (func $select)))
  (export "keyway:plugin/selector@0.1.0" (instance $selector)))"#
    );
    wat::parse_str(text).unwrap()
}

/// The same component with another digest: a custom section more.
pub(crate) fn variant(component: &[u8], number: u8) -> Vec<u8> {
    let section = [0, 3, 1, b'v', number];
    [component, &section].concat()
}
