//! The typed calls, generated from `wit/`. Parameters are borrowed: lowering a record copies its bytes once, into the
//! guest. Results are owned: their bytes become the records' own without another copy.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package keyway:host;
        world guest {
            import keyway:plugin/metrics@0.1.0;
            import wasi:logging/logging@0.1.0-draft;
            import wasmcloud:messaging/consumer@0.2.0;
            export keyway:plugin/handler@0.1.0;
            export keyway:plugin/selector@0.1.0;
            export keyway:plugin/lifecycle@0.1.0;
            export wasmcloud:messaging/handler@0.2.0;
        }
    ",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { "wasmcloud:messaging/consumer.publish": trappable },
    exports: { default: async },
});

/// Apart, since a name for a list of texts is not generated right where parameters are borrowed; none is here.
pub(super) mod wasi_messaging {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "wasi:messaging/messaging-request-reply@0.2.0-draft",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "wasi:messaging/types.message": super::super::capability::messaging::wasi::Message,
        },
    });
}
