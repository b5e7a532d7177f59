/* SPDX-License-Identifier: MIT */
#include "description.h"
#include "families.h"
#include "io/gguf.h"
#include "io/json.h"
#include "io/map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHAIN 8 /* entries from "common" to the family: more are a circle of "like" */

static const struct json_limits limits = {"", 1 << 20, 16, 100000};

#define X(name, text, meaning) text,
static const char *const key_names[] = {DESCRIPTION_KEYS(X)};
#undef X

#define X(name, text, meaning) meaning,
static const char *const key_meanings[] = {DESCRIPTION_KEYS(X)};
#undef X

/* Where a table is, and what its families are called by. */
static const struct form {
    const char *table, *type, *source;
} hub = {"families.json", "model_type", "config.json"},
  gguf = {"architectures.json", "general.architecture", "its metadata"};

static cJSON *parse_table(const struct form *form, struct io_error *err) {
    const struct families_file *file = families_files;
    while (strcmp(file->path, form->table) != 0)
        file++;
    return json_parse(file->path, file->text, strlen(file->text), &limits, err);
}

/* The entries that describe a family, the most special one first. */
struct chain {
    const cJSON *entries[MAX_CHAIN];
    int n;
};

/* A case of "cases" has values alone. */
static bool set_values(struct description *d, const cJSON *entry, bool of_case, struct io_error *err) {
    for (const cJSON *item = entry->child; item; item = item->next) {
        int key = 0;
        while (key < D_COUNT && strcmp(key_names[key], item->string) != 0)
            key++;
        if (key < D_COUNT && !(of_case && key == D_WITHIN))
            d->values[key] = item;
        else if (of_case || (strcmp(item->string, "like") != 0 && strcmp(item->string, "cases") != 0))
            return io_fail(err, d->file, "\"%.100s\" is no key of a %s", item->string,
                           of_case ? "case" : "description");
    }
    return true;
}

/* A value of config.json as "cases" writes it. */
static void case_text(const cJSON *item, char *text, size_t size) {
    if (cJSON_IsString(item))
        snprintf(text, size, "%s", item->valuestring);
    else
        snprintf(text, size, "%s", json_show(item).text);
}

static bool set_case(struct description *d, const cJSON *cases, struct io_error *err) {
    const cJSON *const item = config_item(&d->config, cases->string);
    char text[64], known[256] = "";
    size_t used = 0;
    if (!cJSON_IsObject(cases))
        return io_fail(err, d->file, "cases: %.100s: expected an object, got %s", cases->string,
                       json_show(cases).text);
    if (!item) return true;
    case_text(item, text, sizeof text);
    for (const cJSON *c = cases->child; c; c = c->next) {
        if (!cJSON_IsObject(c))
            return io_fail(err, d->file, "cases: %.100s: %.100s: expected an object, got %s", cases->string,
                           c->string, json_show(c).text);
        if (strcmp(c->string, text) == 0) return set_values(d, c, true, err);
        if (used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", c->string);
    }
    if (cJSON_IsNull(item)) return true;
    return io_fail(err, d->config.name, "%.100s: expected one of %s, got %s", cases->string, known,
                   json_show(item).text);
}

static bool set_entry(struct description *d, const cJSON *entry, struct io_error *err) {
    const cJSON *const cases = cJSON_GetObjectItemCaseSensitive(entry, "cases");
    if (!set_values(d, entry, false, err)) return false;
    if (cases && !cJSON_IsObject(cases))
        return io_fail(err, d->file, "cases: expected an object, got %s", json_show(cases).text);
    for (const cJSON *c = cases ? cases->child : NULL; c; c = c->next)
        if (!set_case(d, c, err)) return false;
    return true;
}

static const cJSON *find_family(const struct description *d, const char *name) {
    return strcmp(name, "common") == 0 ? NULL : cJSON_GetObjectItemCaseSensitive(d->table, name);
}

/* All names of a table but "common", as "mixtral, olmoe, ...". */
struct names {
    char text[1024];
};
static struct names list_families(const cJSON *table) {
    struct names names = {""};
    size_t used = 0;
    for (const cJSON *item = table->child; item && used < sizeof names.text; item = item->next)
        if (strcmp(item->string, "common") != 0)
            used += (size_t)snprintf(names.text + used, sizeof names.text - used, "%s%s", used ? ", " : "",
                                     item->string);
    return names;
}

/* Follows "like" from `entry` on; "common" comes last. */
static bool find_chain(const struct description *d, const cJSON *entry, struct chain *chain,
                       struct io_error *err) {
    chain->n = 0;
    while (entry) {
        chain->entries[chain->n++] = entry;
        const cJSON *const like = cJSON_GetObjectItemCaseSensitive(entry, "like");
        if (!like) break;
        entry = cJSON_IsString(like) ? find_family(d, like->valuestring) : NULL;
        if (!entry || chain->n == MAX_CHAIN - 1)
            return io_fail(err, d->file, "like: expected one of %s, got %s", list_families(d->table).text,
                           json_show(like).text);
    }
    chain->entries[chain->n++] = cJSON_GetObjectItemCaseSensitive(d->table, "common");
    return true;
}

static bool enter_object(struct description *d, const cJSON *item, const char *name, struct io_error *err) {
    const size_t bytes = strlen(d->config.name) + strlen(name) + 3;
    d->place = malloc(bytes);
    if (!d->place) return io_fail(err, d->config.name, "out of memory");
    snprintf(d->place, bytes, "%s: %s", d->config.name, name);
    d->config = (struct config){d->place, (cJSON *)item};
    return true;
}

/* Multimodal models keep the text model's keys in an object of their own. */
static bool enter(struct description *d, const struct chain *chain, struct io_error *err) {
    const cJSON *within = NULL;
    for (int i = 0; i < chain->n && !within; i++)
        within = cJSON_GetObjectItemCaseSensitive(chain->entries[i], key_names[D_WITHIN]);
    if (!within || cJSON_IsNull(within)) return true;
    if (!cJSON_IsString(within))
        return io_fail(err, d->file, "within: expected a key of config.json, got %s", json_show(within).text);
    const cJSON *const item = config_find(&d->config, within->valuestring);
    return !cJSON_IsObject(item) || enter_object(d, item, within->valuestring, err);
}

static bool check_required(const struct description *d, struct io_error *err) {
    static const enum description_key required[] = {D_EXPERTS, D_INTER};
    char missing[128] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof required / sizeof *required; i++)
        if (!d->values[required[i]])
            used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%s", used ? ", " : "",
                                     key_names[required[i]]);
    return !used || io_fail(err, d->file, "missing: %s", missing);
}

/* What a tensor is called is text, or a list of it, and is never looked up in config.json. Anything else
 * would pass for a model without that tensor. */
static bool check_names(const struct description *d, struct io_error *err) {
    for (int key = D_BLOCK; key < D_COUNT; key++) {
        const cJSON *const value = d->values[key];
        const struct config_value v = {value, d->file, key_names[key], (int)strlen(key_names[key])};
        const cJSON *item = cJSON_IsArray(value) ? value->child : value;
        if (!value || cJSON_IsNull(value)) continue;
        if (!item) return config_refuse(&v, "a tensor's name", err);
        for (; item; item = cJSON_IsArray(value) ? item->next : NULL)
            if (!cJSON_IsString(item)) return config_refuse(&v, "a tensor's name", err);
    }
    return true;
}

static bool read_own(struct description *d, const char *options, struct io_error *err) {
    struct file_map map;
    if (!file_map_open(options, &map, err)) return false;
    d->own = json_parse(options, map.data, map.size, &limits, err);
    file_map_close(&map);
    d->name = d->file = options;
    return d->own != NULL;
}

static const cJSON *find_type(struct description *d, const struct form *form, struct io_error *err) {
    if (!config_string(&d->config, form->type, &d->name, err)) return NULL;
    const cJSON *const entry = find_family(d, d->name);
    if (!entry)
        io_error_set(err, d->config.name,
                     "%s: \"%.60s\" is not known; --options can describe it, with at least experts and "
                     "inter, or like and one of %s",
                     form->type, d->name, list_families(d->table).text);
    return entry;
}

static bool read_metadata(const char *path, struct config *config, struct io_error *err) {
    struct gguf file;
    if (!gguf_open(path, &file, err)) return false;
    const bool ok = gguf_config(&file, config, err);
    gguf_close(&file);
    return ok;
}

/* In metadata, an architecture's keys begin with its name. */
static bool enter_architecture(struct description *d, struct io_error *err) {
    const char *name;
    if (!config_string(&d->config, gguf.type, &name, err)) return false;
    const cJSON *const item = cJSON_GetObjectItemCaseSensitive(d->config.root, name);
    return enter_object(d, item, name, err);
}

bool description_open(const char *path, const char *options, int64_t layer, struct description *d,
                      struct io_error *err) {
    const bool is_gguf = gguf_is_path(path);
    const struct form *const form = is_gguf ? &gguf : &hub;
    struct chain chain;
    *d = (struct description){.file = form->table, .source = form->source, .layer = layer};
    d->table = parse_table(form, err);
    if (!d->table || (options && !read_own(d, options, err)) ||
        !(is_gguf ? read_metadata : config_open)(path, &d->whole, err))
        return false;
    d->config = d->whole;
    const cJSON *const entry = options ? d->own : find_type(d, form, err);
    if (!entry || !find_chain(d, entry, &chain, err) ||
        !(is_gguf ? enter_architecture(d, err) : enter(d, &chain, err)))
        return false;
    while (chain.n > 0)
        if (!set_entry(d, chain.entries[--chain.n], err)) return false;
    return check_required(d, err) && check_names(d, err);
}

void description_close(struct description *d) {
    config_close(&d->whole);
    free(d->place);
    cJSON_Delete(d->own);
    cJSON_Delete(d->table);
    *d = (struct description){0};
}

static bool is_reference(const cJSON *item) {
    return cJSON_IsString(item) && item->valuestring[0] == '$';
}

static bool has_reference(const cJSON *list) {
    const cJSON *item = list->child;
    while (item && !is_reference(item))
        item = item->next;
    return item != NULL;
}

/* What one text or literal of a description stands for. */
static struct config_value find_value(const struct description *d, enum description_key key,
                                      const cJSON *item) {
    const char *const name = key_names[key];
    if (is_reference(item)) return config_value(&d->config, item->valuestring + 1);
    return (struct config_value){cJSON_IsNull(item) ? NULL : item, d->file, name, (int)strlen(name)};
}

struct config_value description_list(const struct description *d, enum description_key key) {
    const cJSON *const value = d->values[key];
    if (!cJSON_IsArray(value) || !has_reference(value)) return find_value(d, key, value);
    struct config_value v = {0};
    for (const cJSON *item = value->child; item && !v.item; item = item->next)
        v = find_value(d, key, item);
    return v;
}

struct config_value description_value(const struct description *d, enum description_key key) {
    struct config_value v = description_list(d, key);
    const cJSON *const item = cJSON_IsArray(v.item) ? cJSON_GetArrayItem(v.item, (int)d->layer) : NULL;
    if (item) v.item = cJSON_IsNull(item) ? NULL : item;
    return v;
}

bool description_int(const struct description *d, enum description_key key, int64_t min, int64_t max,
                     int64_t *value, struct io_error *err) {
    const struct config_value v = description_value(d, key);
    return config_value_int(&v, min, max, value, err);
}

bool description_int_or(const struct description *d, enum description_key key, int64_t min, int64_t max,
                        int64_t *value, struct io_error *err) {
    const struct config_value v = description_value(d, key);
    return !v.item || config_value_int(&v, min, max, value, err);
}

bool description_float_or(const struct description *d, enum description_key key, double min, double max,
                          float *value, struct io_error *err) {
    const struct config_value v = description_value(d, key);
    double number = *value;
    if (v.item && !config_value_number(&v, min, max, &number, err)) return false;
    *value = (float)number;
    return true;
}

bool description_choice_or(const struct description *d, enum description_key key, const char *const *choices,
                           int *value, struct io_error *err) {
    const struct config_value v = description_value(d, key);
    return !v.item || config_value_choice(&v, choices, value, err);
}

bool description_flag_or(const struct description *d, enum description_key key, bool *value,
                         struct io_error *err) {
    const struct config_value v = description_value(d, key);
    if (!v.item) return true;
    if (!cJSON_IsBool(v.item) && !cJSON_IsNumber(v.item)) return config_refuse(&v, "true or false", err);
    *value = cJSON_IsTrue(v.item) || (cJSON_IsNumber(v.item) && v.item->valuedouble != 0);
    return true;
}

const char *description_text(const struct description *d, enum description_key key, int i) {
    const cJSON *const value = d->values[key];
    if (cJSON_IsString(value)) return i == 0 ? value->valuestring : NULL;
    return cJSON_IsArray(value) ? cJSON_GetStringValue(cJSON_GetArrayItem(value, i)) : NULL;
}

/* All entries of a table, in a line each. */
static void print_families(const cJSON *table) {
    for (const cJSON *item = table->child; item; item = item->next) {
        char *const text = cJSON_PrintUnformatted(item);
        printf("  \"%s\": %s\n", item->string, text ? text : "");
        cJSON_free(text);
    }
}

static void print_help(const cJSON *families, const cJSON *architectures) {
    printf("\nfamilies, by model_type in config.json:\n  %s\n", list_families(families).text);
    printf("and by general.architecture in a GGUF file:\n  %s\n\n", list_families(architectures).text);
    fputs("--options FILE describes another family, or changes one: a JSON object of the keys below.\n"
          "  {\"like\": \"deepseek_v3\", \"n_group\": 1, \"scale\": [\"$router_scale\", 2.5]}\n"
          "\"like\" names the family that has what FILE has not. A value is a number, a text, true or\n"
          "false; or \"$KEY\" for what config.json has under KEY (\"$a.b\": in an object; \"$a|b\": a, or\n"
          "else b; a list there has a value for each layer); or a list with one of these in it, of\n"
          "which the first value that exists counts. Names of tensors are texts or lists of texts.\n"
          "null removes a value. By values of config.json,\n"
          "  {\"cases\": {\"topk_method\": {\"greedy\": {\"n_group\": 1}, \"grouped\": {}}}}\n"
          "adds keys, and refuses values that are not listed. The families in this form; what is\n"
          "nowhere else is in \"common\":\n",
          stdout);
    print_families(families);
    puts("The architectures of GGUF files, where KEY is one of the metadata without the architecture's\n"
         "name in front:");
    print_families(architectures);
    puts("Keys:");
    for (int k = 0; k < D_COUNT; k++)
        printf("  %-18s %s\n", key_names[k], key_meanings[k]);
}

void description_help(void) {
    cJSON *const families = parse_table(&hub, NULL), *const architectures = parse_table(&gguf, NULL);
    if (families && architectures) print_help(families, architectures);
    cJSON_Delete(families);
    cJSON_Delete(architectures);
}
