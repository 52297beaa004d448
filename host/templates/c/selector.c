// A key selector: the record's header `tenant` becomes its key, so that a tenant's records stay in order.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h" // everything that wit/world.wit names, written by `keyway plugin build`

typedef exports_keyway_plugin_selector_candidate_t candidate_t;
typedef exports_keyway_plugin_selector_target_t target_t;

// `key-selector = { plugin = "my-plugin", config = { header = "tenant" } }` in keyway.toml. The caller frees it.
static plugin_string_t header_name(void) {
    plugin_string_t name;
    plugin_string_set(&name, "header");
    plugin_option_string_t found;
    wasi_config_store_error_t error;
    if (wasi_config_store_get(&name, &found, &error) && found.is_some) {
        return found.val;
    }
    plugin_string_t fallback;
    plugin_string_dup(&fallback, "tenant");
    return fallback;
}

static bool equal(const plugin_string_t *a, const plugin_string_t *b) {
    return a->len == b->len && memcmp(a->ptr, b->ptr, a->len) == 0;
}

// False refuses the record, and whoever sent it reads `error`. The same record has to get the same answer, or records that
// belong together are torn apart.
bool exports_keyway_plugin_selector_select(candidate_t *candidate, uint32_t partitions, target_t *target,
                                           plugin_string_t *error) {
    (void)partitions;
    plugin_string_t name = header_name();
    bool found = false;
    for (size_t i = 0; i < candidate->headers.len && !found; i++) {
        keyway_plugin_types_header_t *header = &candidate->headers.ptr[i];
        if (equal(&header->key, &name) && header->value.is_some) {
            target->tag = KEYWAY_PLUGIN_TYPES_TARGET_KEY;
            target->val.key = header->value.val;
            header->value.is_some = false; // it moved to the target, which is freed for us
            found = true;
        }
    }
    if (!found) {
        char text[256];
        snprintf(text, sizeof text, "the record has no header `%.*s`", (int)name.len, (const char *)name.ptr);
        plugin_string_dup(error, text);
    }
    plugin_string_free(&name);
    exports_keyway_plugin_selector_candidate_free(candidate); // it was given to us
    return found;
}
