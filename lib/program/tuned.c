/* SPDX-License-Identifier: MIT */
#include "tuned.h"

#include "base/str.h"
#include "blob.h"
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tuning_device names_of(const struct device *dev) {
    return (struct tuning_device){dev->name, dev->driver, dev->platform};
}

static enum clmoe_status add_shipped(struct tuning *t, const struct log *log, const struct device *dev) {
    const struct tuning_device names = names_of(dev);
    for (const struct tuning_text *s = tuning_shipped; s->path; s++)
        TRY(tuning_add(t, log, s->path, s->text, &names));
    return CLMOE_OK;
}

static void key_of(const struct device *dev, char key[HASH_HEX]) {
    struct hash h;
    uint8_t digest[HASH_BYTES];
    hash_begin(&h);
    hash_add_str(&h, "clmoe tuning 1");
    store_hash_device(&h, dev);
    hash_end(&h, digest);
    hash_hex(digest, key);
}

/* What file and cache hold is text, if it is what they should hold. */
static enum clmoe_status add_bytes(struct tuning *t, const struct log *log, const struct device *dev,
                                   const char *origin, const void *bytes, size_t size) {
    struct str text = {0};
    const struct tuning_device names = names_of(dev);
    str_append(&text, bytes, size);
    enum clmoe_status status = text.failed ? CLMOE_E_NO_MEMORY : CLMOE_OK;
    if (status == CLMOE_OK && memchr(bytes, 0, size))
        log_msg(log, CLMOE_LOG_WARN, "%s is no text: ignored", origin);
    else if (status == CLMOE_OK && text.text)
        status = tuning_add(t, log, origin, text.text, &names);
    str_free(&text);
    return status == CLMOE_E_INVALID ? CLMOE_OK : status;
}

static enum clmoe_status add_file(struct tuning *t, const struct log *log, const struct device *dev,
                                  const char *path) {
    FILE *const f = fopen(path, "rb");
    if (!f) {
        log_msg(log, CLMOE_LOG_WARN, "cannot read CLMOE_TUNING = \"%s\"", path);
        return CLMOE_OK;
    }
    struct str text = {0};
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0;)
        str_append(&text, buffer, n);
    const bool unreadable = ferror(f);
    fclose(f);
    enum clmoe_status status = CLMOE_OK;
    if (unreadable)
        log_msg(log, CLMOE_LOG_WARN, "cannot read CLMOE_TUNING = \"%s\"", path);
    else if (text.failed)
        status = CLMOE_E_NO_MEMORY;
    else if (text.text)
        status = add_bytes(t, log, dev, path, text.text, text.size);
    str_free(&text);
    return status;
}

static enum clmoe_status add_cached(struct tuning *t, const struct log *log, const struct device *dev,
                                    const struct clmoe_cache *cache) {
    char key[HASH_HEX];
    void *memory = NULL;
    const unsigned char *bytes;
    size_t size;
    key_of(dev, key);
    if (!blob_get(cache, log, key, &memory, &bytes, &size)) return CLMOE_OK;
    const enum clmoe_status status = add_bytes(t, log, dev, "tuning in the cache", bytes, size);
    free(memory);
    return status;
}

enum clmoe_status tuned_load(struct tuning *t, const struct log *log, const struct device *dev,
                             const struct clmoe_cache *cache) {
    const char *const path = getenv("CLMOE_TUNING");
    if (path && *path)
        TRY(add_file(t, log, dev, path));
    else if (cache)
        TRY(add_cached(t, log, dev, cache));
    return add_shipped(t, log, dev);
}

enum clmoe_status tuned_set(struct tuning *t, const struct log *log, const struct device *dev,
                            const char *text) {
    const struct tuning_device names = names_of(dev);
    if (text) TRY(tuning_add(t, log, "text", text, &names));
    return add_shipped(t, log, dev);
}

void tuned_keep(const struct device *dev, const struct clmoe_cache *cache, const char *text) {
    char key[HASH_HEX];
    key_of(dev, key);
    blob_set(cache, key, (const unsigned char *)text, strlen(text));
}
