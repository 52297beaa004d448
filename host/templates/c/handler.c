// A handler that greets: every value goes to the group's `output-topic` with a greeting before it.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h" // everything that wit/world.wit names, written by `keyway plugin build`

typedef exports_keyway_plugin_handler_message_t message_t;
typedef exports_keyway_plugin_handler_list_outgoing_t records_t;
typedef exports_keyway_plugin_handler_failure_t failure_t;

// `handler = { plugin = "my-plugin", config = { greeting = "hello" } }` in keyway.toml. The caller frees it.
static plugin_string_t greeting(void) {
    plugin_string_t name;
    plugin_string_set(&name, "greeting");
    plugin_option_string_t found;
    wasi_config_store_error_t error;
    if (wasi_config_store_get(&name, &found, &error) && found.is_some) {
        return found.val;
    }
    plugin_string_t fallback;
    plugin_string_dup(&fallback, "hello");
    return fallback;
}

static void log_line(const message_t *message) {
    char line[512];
    int length = snprintf(line, sizeof line, "greeting %.*s/%u@%llu", (int)message->topic.len,
                          (const char *)message->topic.ptr, message->partition,
                          (unsigned long long)message->offset);
    plugin_string_t context = {NULL, 0};
    plugin_string_t text = {(uint8_t *)line, (size_t)length};
    wasi_logging_logging_log(WASI_LOGGING_LOGGING_LEVEL_INFO, &context, &text);
}

// True acknowledges the record and writes `records`; false leaves it to the group what becomes of it, with `failure`.
bool exports_keyway_plugin_handler_handle(message_t *message, records_t *records, failure_t *failure) {
    if (!message->value.is_some) {
        // This record can never be handled; KEYWAY_PLUGIN_TYPES_FAILURE_RETRY would have it handled again later.
        failure->tag = KEYWAY_PLUGIN_TYPES_FAILURE_REJECT;
        plugin_string_dup(&failure->val.reject, "the record has no value");
        exports_keyway_plugin_handler_message_free(message);
        return false;
    }
    log_line(message);

    plugin_string_t hello = greeting();
    plugin_list_u8_t *value = &message->value.val;
    size_t length = hello.len + 2 + value->len;
    uint8_t *text = malloc(length);
    memcpy(text, hello.ptr, hello.len);
    memcpy(text + hello.len, ", ", 2);
    memcpy(text + hello.len + 2, value->ptr, value->len);
    plugin_string_free(&hello);

    // The message is ours. Its key, headers and timestamp move to what goes out, the rest is freed. What goes out is freed
    // for us when it is written.
    exports_keyway_plugin_handler_outgoing_t *out = calloc(1, sizeof *out);
    out->timestamp = message->timestamp; // topic and partition stay absent: the group's `output-topic`, as the key decides
    out->key = message->key;
    out->headers = message->headers;
    out->value.is_some = true;
    out->value.val.ptr = text;
    out->value.val.len = length;
    plugin_string_free(&message->topic);
    plugin_list_u8_free(value);

    records->ptr = out;
    records->len = 1;
    return true;
}
