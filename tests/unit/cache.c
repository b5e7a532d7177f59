/* SPDX-License-Identifier: MIT
 * Program caches: in memory, through callbacks, in a directory; damaged, foreign and contended entries. */
#define _POSIX_C_SOURCE 200809L
#include "kit.h"
#include "program/blob.h"
#include "sample.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct logbook book;

/* ---- a cache in memory behind the callbacks, with faults ---- */

enum { STORE_ENTRIES = 64 };
struct store_entry {
    char key[HASH_HEX];
    unsigned char *blob;
    size_t size;
};
struct memory_store {
    struct clmoe_cache cache;
    struct store_entry entries[STORE_ENTRIES];
    int n, gets, sets;
    size_t claim;    /* not 0: the size that the first get of two claims */
    bool then_empty; /* the second get of two is a miss */
};

static size_t store_get_blob(void *priv, const char *key, void *blob, size_t capacity) {
    struct memory_store *const m = priv;
    m->gets++;
    ck_assert_uint_eq(strspn(key, "0123456789abcdef"), HASH_HEX - 1);
    ck_assert_uint_eq(strlen(key), HASH_HEX - 1);
    if (m->claim && !blob) return m->claim;
    if (m->then_empty && blob) return 0;
    for (int i = 0; i < m->n; i++) {
        if (strcmp(m->entries[i].key, key) != 0) continue;
        if (blob && m->entries[i].size <= capacity) memcpy(blob, m->entries[i].blob, m->entries[i].size);
        return m->entries[i].size;
    }
    return 0;
}

static void store_set_blob(void *priv, const char *key, const void *blob, size_t size) {
    struct memory_store *const m = priv;
    m->sets++;
    struct store_entry *e = m->entries;
    while (e < m->entries + m->n && strcmp(e->key, key) != 0)
        e++;
    ck_assert(e < m->entries + STORE_ENTRIES);
    if (e == m->entries + m->n) m->n++;
    free(e->blob);
    memcpy(e->key, key, HASH_HEX);
    e->blob = malloc(size);
    memcpy(e->blob, blob, size);
    e->size = size;
}

static struct memory_store *store_new(void) {
    struct memory_store *const m = calloc(1, sizeof *m);
    m->cache = (struct clmoe_cache){store_get_blob, store_set_blob, m};
    return m;
}

static void store_free(struct memory_store *m) {
    for (int i = 0; i < m->n; i++)
        free(m->entries[i].blob);
    free(m);
}

/* ---- what every test does: a context, a plan, a right result ---- */

static void plan_only(int index, clmoe_context *ctx) {
    struct sample s;
    clmoe_plan *plan = NULL;
    sample_open(&s, index, tester()->context, SAMPLE_TOKENS);
    case_ok(sample_plan(&s, ctx, &plan));
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}

static void plan_and_run(int index, clmoe_context *ctx) {
    struct sample s;
    clmoe_plan *plan = NULL;
    sample_open(&s, index, tester()->context, SAMPLE_TOKENS);
    case_ok(sample_plan(&s, ctx, &plan));
    case_ok(sample_enqueue(&s, plan, tester()->queue, 0, NULL, NULL));
    ck_assert_uint_eq(sample_outputs(&s, tester()->queue), sample_result(index));
    clmoe_plan_destroy(&plan);
    sample_close(&s);
}

static void fresh_run(int index, const struct clmoe_cache *cache) {
    logbook_clear(&book);
    clmoe_context *ctx = logged_context(&book, cache, plain_caps);
    plan_and_run(index, ctx);
    clmoe_context_destroy(&ctx);
}

/* The same without running anything. */
static void fresh_plan(int index, const struct clmoe_cache *cache) {
    logbook_clear(&book);
    clmoe_context *ctx = logged_context(&book, cache, plain_caps);
    plan_only(index, ctx);
    clmoe_context_destroy(&ctx);
}

static int built(void) {
    return logbook_count(&book, "built ");
}
static int loaded(void) {
    return logbook_count(&book, " from the cache");
}
static int damaged(void) {
    return logbook_count(&book, "is damaged or foreign: ignored");
}

START_TEST(memory_cache) {
    logbook_clear(&book);
    clmoe_context *ctx = logged_context(&book, NULL, plain_caps);
    plan_and_run(_i, ctx);
    const int first = built();
    ck_assert_int_gt(first, 0);
    plan_and_run(_i, ctx);
    ck_assert_int_eq(built(), first);
    clmoe_context_destroy(&ctx);
}
END_TEST

START_TEST(callbacks) {
    struct memory_store *const m = store_new();
    fresh_run(_i, &m->cache);
    const int n = built();
    ck_assert_int_gt(n, 0);
    ck_assert_int_eq(loaded(), 0);
    ck_assert_int_eq(m->sets, n);
    const struct layer_counts before = layer_now();
    fresh_run(_i, &m->cache);
    ck_assert_int_eq(built(), 0);
    ck_assert_int_eq(loaded(), n);
    ck_assert_int_eq(m->sets, n);
    ck_assert_uint_eq(layer_now().binaries, before.binaries + (uint64_t)n);
    store_free(m);
}
END_TEST

/* A getter that changes its mind between the two calls: a miss, and the entry is written again. */
START_TEST(inconstant_callbacks) {
    static const size_t claims[] = {1, 111, 112, 113, 1 << 20};
    struct memory_store *const m = store_new();
    fresh_plan(0, &m->cache);
    const int n = m->sets;
    const struct layer_counts before = layer_now();
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        m->claim = claims[i];
        fresh_plan(0, &m->cache);
        ck_assert_int_eq(built(), n);
        ck_assert_int_eq(damaged(), n + 1); /* and what is tuned */
    }
    m->claim = 0;
    m->then_empty = true;
    fresh_plan(0, &m->cache);
    ck_assert_int_eq(built(), n);
    ck_assert_uint_eq(layer_now().binaries, before.binaries);
    m->then_empty = false;
    fresh_plan(0, &m->cache);
    ck_assert_int_eq(built(), 0);
    store_free(m);
}
END_TEST

/* ---- blobs ---- */

static const char key_a[HASH_HEX] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
static const char key_b[HASH_HEX] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdee";

static bool blob_hit(struct memory_store *m, const char key[HASH_HEX]) {
    void *memory = NULL;
    const unsigned char *binary = NULL;
    size_t size = 0;
    if (!blob_get(&m->cache, NULL, key, &memory, &binary, &size)) return false;
    ck_assert_uint_eq(size, 61);
    for (size_t i = 0; i < size; i++)
        ck_assert_int_eq(binary[i], (int)(i * 7 % 256));
    free(memory);
    return true;
}

static struct memory_store *one_blob(void) {
    struct memory_store *const m = store_new();
    unsigned char binary[61];
    for (size_t i = 0; i < sizeof binary; i++)
        binary[i] = (unsigned char)(i * 7);
    blob_set(&m->cache, key_a, binary, sizeof binary);
    ck_assert(blob_hit(m, key_a));
    return m;
}

START_TEST(every_flipped_bit_is_found) {
    struct memory_store *const m = one_blob();
    struct store_entry *const e = m->entries;
    for (size_t bit = 0; bit < 8 * e->size; bit++) {
        e->blob[bit / 8] ^= (unsigned char)(1 << bit % 8);
        case_require(!blob_hit(m, key_a), "bit %zu of byte %zu", bit % 8, bit / 8);
        e->blob[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    ck_assert(blob_hit(m, key_a));
    store_free(m);
}
END_TEST

START_TEST(every_other_length_is_found) {
    struct memory_store *const m = one_blob();
    struct store_entry *const e = m->entries;
    const size_t right = e->size;
    e->blob = realloc(e->blob, right + 300);
    memset(e->blob + right, 0, 300);
    for (size_t size = 0; size < right + 300; size++) {
        e->size = size;
        case_require(blob_hit(m, key_a) == (size == right), "%zu bytes of %zu", size, right);
    }
    store_free(m);
}
END_TEST

START_TEST(a_blob_of_another_key) {
    struct memory_store *const m = one_blob();
    memcpy(m->entries[0].key, key_b, HASH_HEX);
    ck_assert(!blob_hit(m, key_b));
    ck_assert(!blob_hit(m, key_a));
    store_free(m);
}
END_TEST

/* ---- the directory ---- */

static char dir[256];
static struct clmoe_cache *disk;

static void disk_setup(void) {
    scratch_make(dir);
    disk = NULL;
    case_ok(clmoe_cache_dir_create(dir, &disk));
}

static void disk_teardown(void) {
    clmoe_cache_dir_destroy(&disk);
    ck_assert_ptr_null(disk);
    scratch_remove(dir);
}

/* The files of the directory: their number, and the path of the last one. */
static int files(char path[600]) {
    DIR *const d = opendir(dir);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, 600, "%s/%s", dir, e->d_name);
        n++;
    }
    if (d) closedir(d);
    return n;
}

START_TEST(directories_that_cannot_be) {
    char file[600], below[700], nested[700];
    snprintf(file, sizeof file, "%s/file", dir);
    snprintf(below, sizeof below, "%s/file/cache", dir);
    snprintf(nested, sizeof nested, "%s/no/parent", dir);
    write_bytes(file, "x", 1);
    const char *const bad[] = {NULL, "", file, below, nested, "/proc"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct clmoe_cache *cache = (struct clmoe_cache *)dir;
        case_require(clmoe_cache_dir_create(bad[i], &cache) == CLMOE_E_INVALID && !cache, "\"%s\"",
                     bad[i] ? bad[i] : "NULL");
    }
    ck_assert_int_eq(clmoe_cache_dir_create(dir, NULL), CLMOE_E_INVALID);
    struct clmoe_cache *none = NULL;
    clmoe_cache_dir_destroy(NULL);
    clmoe_cache_dir_destroy(&none);
}
END_TEST

START_TEST(directories_are_made) {
    char made[600];
    snprintf(made, sizeof made, "%s/new", dir);
    struct clmoe_cache *cache = NULL;
    case_ok(clmoe_cache_dir_create(made, &cache));
    struct stat st;
    ck_assert(stat(made, &st) == 0 && S_ISDIR(st.st_mode));
    clmoe_cache_dir_destroy(&cache);
    case_ok(clmoe_cache_dir_create(made, &cache)); /* again: it exists */
    clmoe_cache_dir_destroy(&cache);
    ck_assert_int_eq(rmdir(made), 0); /* nothing was left in it */
}
END_TEST

START_TEST(hits_across_contexts) {
    char path[600];
    fresh_run(_i, disk);
    const int n = built();
    ck_assert_int_gt(n, 0);
    ck_assert_int_eq(files(path), n);
    fresh_run(_i, disk);
    ck_assert_int_eq(built(), 0);
    ck_assert_int_eq(loaded(), n);
}
END_TEST

/* Damage to the file of a real program: never reaches the driver, is reported, and is repaired. */
START_TEST(damaged_files) {
    char path[600];
    fresh_plan(0, disk);
    const int n = built();
    ck_assert_int_eq(files(path), n);
    size_t size;
    unsigned char *const good = read_bytes(path, &size);
    const size_t places[] = {0, 7, 8, 71, 72, 79, 80, 111, 112, size / 2, size - 1};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        good[places[i]] ^= 0x10;
        write_bytes(path, good, size);
        good[places[i]] ^= 0x10;
        const uint64_t binaries = layer_now().binaries;
        fresh_plan(0, disk);
        ck_assert_int_eq(damaged(), 1);
        ck_assert_int_eq(built(), 1);
        ck_assert_uint_eq(layer_now().binaries, binaries + (uint64_t)(n - 1));
    }
    const size_t cuts[] = {0, 1, 8, 79, 111, 112, 113, size / 3, size - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        write_bytes(path, good, cuts[i]);
        const uint64_t binaries = layer_now().binaries;
        fresh_plan(0, disk);
        ck_assert_int_eq(damaged(), cuts[i] > 0); /* an empty file is a plain miss */
        ck_assert_int_eq(built(), 1);
        ck_assert_uint_eq(layer_now().binaries, binaries + (uint64_t)(n - 1));
    }
    fresh_run(0, disk);
    ck_assert_int_eq(built(), 0);
    ck_assert_int_eq(damaged(), 0);
    free(good);
}
END_TEST

START_TEST(a_folder_in_place_of_a_file) {
    char path[600];
    fresh_plan(0, disk);
    files(path);
    unlink(path);
    mkdir(path, 0700);
    fresh_plan(0, disk);
    ck_assert_int_eq(built(), 1);
    char after[600];
    ck_assert_int_eq(files(after), 1); /* no temporary file is left behind */
    rmdir(path);
}
END_TEST

START_TEST(a_directory_that_goes_away) {
    scratch_remove(dir);
    fresh_plan(0, disk);
    ck_assert_int_gt(built(), 0);
    ck_assert_int_eq(book.levels[CLMOE_LOG_ERROR], 0);
}
END_TEST

/* ---- many writers ---- */

enum { WRITERS = 4, ROUNDS = 200 };

/* A blob that says what it is in every byte; sizes differ between writers. */
static size_t fill_blob(unsigned char *blob, int writer) {
    const size_t size = (size_t)(3000 + 977 * writer);
    memset(blob, 'a' + writer, size);
    return size;
}

static bool whole(const unsigned char *blob, size_t size) {
    unsigned char want[8192];
    const int writer = size ? blob[0] - 'a' : -1;
    return writer >= 0 && writer < WRITERS && fill_blob(want, writer) == size &&
           memcmp(blob, want, size) == 0;
}

/* Writes and reads: true if every read was a miss or one whole blob. */
static bool contend(int writer) {
    static const char *const keys[] = {"aa", "bb"};
    unsigned char mine[8192], got[8192];
    const size_t size = fill_blob(mine, writer);
    bool ok = true;
    for (int i = 0; i < ROUNDS; i++) {
        disk->set(disk->priv, keys[i % 2], mine, size);
        const size_t n = disk->get(disk->priv, keys[i % 2], got, sizeof got);
        ok &= n == 0 || whole(got, n);
        ok &= disk->get(disk->priv, keys[i % 2], NULL, 0) > 0;
    }
    return ok;
}

START_TEST(processes_write_at_once) {
    pid_t children[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        children[i] = fork();
        if (children[i] == 0) _exit(contend(i) ? 0 : 1);
        ck_assert_int_gt(children[i], 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = 0;
        ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    char path[600];
    ck_assert_int_eq(files(path), 2);
}
END_TEST

static void *contend_thread(void *arg) {
    return contend((int)(size_t)arg) ? arg : (void *)&disk;
}

START_TEST(threads_write_at_once) {
    pthread_t threads[WRITERS];
    for (size_t i = 0; i < WRITERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, contend_thread, (void *)i), 0);
    for (size_t i = 0; i < WRITERS; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        ck_assert_ptr_eq(result, (void *)i);
    }
    char path[600];
    ck_assert_int_eq(files(path), 2);
}
END_TEST

/* The size comes back without a buffer, or with one that is too small, which stays as it is. */
START_TEST(reads_of_size_zero) {
    unsigned char blob[8192], small[16] = {0}, zero[16] = {0};
    const size_t size = fill_blob(blob, 0);
    ck_assert_uint_eq(disk->get(disk->priv, "aa", NULL, 0), 0);
    disk->set(disk->priv, "aa", blob, size);
    ck_assert_uint_eq(disk->get(disk->priv, "aa", NULL, 0), size);
    ck_assert_uint_eq(disk->get(disk->priv, "aa", small, 0), size);
    ck_assert_uint_eq(disk->get(disk->priv, "aa", small, sizeof small), size);
    ck_assert_mem_eq(small, zero, sizeof small);
    disk->set(disk->priv, "aa", blob, 0);
    ck_assert_uint_eq(disk->get(disk->priv, "aa", blob, sizeof blob), 0);
}
END_TEST

static void add_tests(TCase *cases) {
    const int n = tester()->small ? 1 : sample_count();
    for (int i = 0; i < n; i++)
        sample_result(i);
    tcase_add_checked_fixture(cases, disk_setup, disk_teardown);
    tcase_add_loop_test(cases, memory_cache, 0, n);
    tcase_add_loop_test(cases, callbacks, 0, n);
    tcase_add_test(cases, inconstant_callbacks);
    tcase_add_test(cases, every_flipped_bit_is_found);
    tcase_add_test(cases, every_other_length_is_found);
    tcase_add_test(cases, a_blob_of_another_key);
    tcase_add_test(cases, directories_that_cannot_be);
    tcase_add_test(cases, directories_are_made);
    tcase_add_loop_test(cases, hits_across_contexts, 0, n);
    tcase_add_test(cases, damaged_files);
    tcase_add_test(cases, a_folder_in_place_of_a_file);
    tcase_add_test(cases, a_directory_that_goes_away);
    tcase_add_test(cases, processes_write_at_once);
    tcase_add_test(cases, threads_write_at_once);
    tcase_add_test(cases, reads_of_size_zero);
}

int main(void) {
    return harness_main("cache", "", add_tests);
}
