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

/* Takes `text` over if it is good. */
static enum clmoe_status add_text(struct tuning *t, const struct log *log, const struct device *dev,
                                  const char *origin, struct str *text) {
    const struct tuning_device names = names_of(dev);
    if (text->failed) return CLMOE_E_NO_MEMORY;
    if (!text->text) return CLMOE_OK;
    TRY(tuning_add(t, log, origin, text->text, &names));
    t->text = text->text;
    *text = (struct str){0};
    return CLMOE_OK;
}

/* What file and cache hold is text, if it is what they should hold. */
static enum clmoe_status add_bytes(struct tuning *t, const struct log *log, const struct device *dev,
                                   const char *origin, struct str *bytes) {
    const bool is_text = !bytes->text || !memchr(bytes->text, 0, bytes->size);
    if (!is_text) log_msg(log, CLMOE_LOG_WARN, "%s is no text: ignored", origin);
    const enum clmoe_status status = is_text ? add_text(t, log, dev, origin, bytes) : CLMOE_OK;
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
    else
        status = add_bytes(t, log, dev, path, &text);
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
    struct str text = {0};
    str_append(&text, (const char *)bytes, size);
    free(memory);
    const enum clmoe_status status = add_bytes(t, log, dev, "tuning in the cache", &text);
    str_free(&text);
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
    struct str copy = {0};
    if (text) str_append(&copy, text, strlen(text));
    const enum clmoe_status status = add_text(t, log, dev, "text", &copy);
    str_free(&copy);
    TRY(status);
    return add_shipped(t, log, dev);
}

void tuned_keep(const struct device *dev, const struct clmoe_cache *cache, const char *text) {
    char key[HASH_HEX];
    key_of(dev, key);
    blob_set(cache, key, (const unsigned char *)text, strlen(text));
}
