// A key selector that gives every tenant a partition of its own choosing: by jump consistent hashing (Lamping and Veach,
// 2014) of a header. When a topic grows from N partitions to M, only the share (M - N) / M of the tenants moves, and all of
// them to the new partitions. Kafka's own hashing moves nearly all.

#include <stdio.h>
#include <string.h>

#include "plugin.h" // written by `keyway plugin build` from wit/world.wit

typedef exports_keyway_plugin_selector_candidate_t candidate_t;
typedef exports_keyway_plugin_selector_target_t target_t;

// FNV-1a, 64 bits: short, and spread well enough for what the jumps do with it.
static uint64_t hash(const uint8_t *bytes, size_t length) {
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    }
    return hash;
}

// The last of the partitions below `partitions` that the key jumps to on its way up.
static uint32_t jump(uint64_t key, uint32_t partitions) {
    int64_t last = -1, next = 0;
    while (next < partitions) {
        last = next;
        key = key * 2862933555777941757 + 1;
        next = (int64_t)((double)(last + 1) * ((double)(1LL << 31) / (double)((key >> 33) + 1)));
    }
    return (uint32_t)last;
}

// The name of the header, from `config = { header = "tenant" }`. The caller frees it.
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

static const plugin_list_u8_t *find(const keyway_plugin_types_list_header_t *headers, const plugin_string_t *name) {
    for (size_t i = 0; i < headers->len; i++) {
        const keyway_plugin_types_header_t *header = &headers->ptr[i];
        if (header->value.is_some && header->key.len == name->len &&
            memcmp(header->key.ptr, name->ptr, name->len) == 0) {
            return &header->value.val;
        }
    }
    return NULL;
}

// The record keeps the caller's key: only its partition is decided here.
bool exports_keyway_plugin_selector_select(candidate_t *candidate, uint32_t partitions, target_t *target,
                                           plugin_string_t *error) {
    plugin_string_t name = header_name();
    const plugin_list_u8_t *tenant = find(&candidate->headers, &name);
    bool found = tenant != NULL;
    if (found) {
        target->tag = KEYWAY_PLUGIN_TYPES_TARGET_PARTITION;
        target->val.partition = jump(hash(tenant->ptr, tenant->len), partitions);
    } else {
        char text[256];
        snprintf(text, sizeof text, "the record has no header `%.*s`", (int)name.len, (const char *)name.ptr);
        plugin_string_dup(error, text);
    }
    plugin_string_free(&name);
    exports_keyway_plugin_selector_candidate_free(candidate); // it was given to us
    return found;
}
