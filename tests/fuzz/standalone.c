// SPDX-License-Identifier: MIT
//
// Runs a fuzz target without libFuzzer: mutations of its seeds, the same on every machine.
//
//     fuzz_npy [RUNS [SEED [FIRST]]]     runs FIRST..FIRST+RUNS-1 of SEED
//     fuzz_npy FILE...                   the files as they are
//
// Every run depends on SEED and its number only. A crash names the run; `fuzz_npy 1 SEED RUN` repeats it.
#include "fuzz.h"

#include <ctype.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#define DEFAULT_RUNS 20000
#define DEFAULT_SEED 1
#define MAX_SIZE 16384
#define MAX_MUTATIONS 8

static unsigned long long seed = DEFAULT_SEED, run;
static size_t passed;

static void report_crash(void) {
    (void)printf("crashed: run %llu of seed %llu\n%zu passed, 1 failed\n", run, seed, passed);
    (void)fflush(stdout);
}

static void on_signal(int number) {
    report_crash();
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

// Of the sanitizers, where there is one: it ends the process without a signal.
#if defined(__GNUC__)
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));
#endif

static void catch_crashes(void) {
    (void)signal(SIGABRT, on_signal);
#if defined(__GNUC__)
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(report_crash);
        return;
    }
#endif
    (void)signal(SIGSEGV, on_signal);
    (void)signal(SIGFPE, on_signal);
    (void)signal(SIGILL, on_signal);
}

// splitmix64: every state is a good one.
static uint64_t state;

static uint64_t next(void) {
    uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static size_t below(size_t n) {
    return n ? (size_t)(next() % n) : 0;
}

struct input {
    uint8_t bytes[MAX_SIZE];
    size_t size;
};

// Replaces `cut` bytes at `at` by `size` others; what would not fit is dropped.
static void splice(struct input *in, size_t at, size_t cut, const void *bytes, size_t size) {
    if (cut > in->size - at) cut = in->size - at;
    if (in->size - cut + size > MAX_SIZE) return;
    memmove(in->bytes + at + size, in->bytes + at + cut, in->size - at - cut);
    memcpy(in->bytes + at, bytes, size);
    in->size = in->size - cut + size;
}

// Pieces that the formats care about.
static void splice_word(struct input *in) {
    static const char *const words[] = {
        "0",
        "-1",
        "1.5",
        "1e300",
        "2147483648",
        "4294967296",
        "9007199254740991",
        "9007199254740992",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ",",
        ":",
        "\"",
        "'",
        "\\",
        "\\u0000",
        "\\ud800",
        "[[[[[[[[",
        "{\"a\":",
        "null",
        "true",
        "True",
        "False",
        "L",
        "\xc3",
        "\xff",
        "\"dtype\"",
        "\"shape\"",
        "\"data_offsets\"",
        "\"__metadata__\"",
        "'descr'",
        "'shape'",
        "'fortran_order'",
        "<V2",
        "|O",
        ">f4",
        "F8_E4M3",
        "I64",
        "general.",
    };
    const char *word = words[below(sizeof(words) / sizeof(words[0]))];
    splice(in, below(in->size + 1), below(2) ? 0 : below(12), word, strlen(word));
}

static void mutate(struct input *in) {
    uint8_t piece[64];
    const size_t at = below(in->size + 1);
    const size_t length = 1 + below(sizeof(piece) - 1);
    switch (below(7)) {
    case 0:
        if (at < in->size) in->bytes[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        if (at < in->size) in->bytes[at] = (uint8_t)next();
        break;
    case 2: in->size = at; break;
    case 3: splice(in, at, length, "", 0); break;
    case 4: { // a piece of a seed
        const struct fuzz_seed other = fuzz_seed_at(below(fuzz_seed_count()));
        const size_t from = below(other.size + 1);
        const size_t n = length < other.size - from ? length : other.size - from;
        memcpy(piece, other.bytes + from, n);
        splice(in, at, below(2) ? n : 0, piece, n);
        break;
    }
    case 5:
        for (size_t i = 0; i < length; ++i)
            piece[i] = (uint8_t)next();
        splice(in, at, below(2) ? length : 0, piece, length);
        break;
    default: splice_word(in); break;
    }
}

// From a block of its own size, so that a sanitizer sees a read beyond.
static void run_target(const void *bytes, size_t size) {
    uint8_t *block = malloc(size);
    if (size && !block) abort();
    if (size) memcpy(block, bytes, size);
    (void)LLVMFuzzerTestOneInput(block, size);
    free(block);
    ++passed;
}

static void run_mutations(unsigned long long runs, unsigned long long first) {
    static struct input in;
    for (unsigned long long i = 0; i < runs; ++i) {
        run = first + i;
        state = seed * UINT64_C(0x2545f4914f6cdd1d) + run * UINT64_C(0xd1342543de82ef95);
        const struct fuzz_seed start = fuzz_seed_at(below(fuzz_seed_count()));
        in.size = start.size < MAX_SIZE ? start.size : MAX_SIZE;
        memcpy(in.bytes, start.bytes, in.size);
        // Run 0 of every seed is an input as it is.
        for (size_t n = run ? 1 + below(MAX_MUTATIONS) : 0; n > 0; --n)
            mutate(&in);
        run_target(in.bytes, in.size);
    }
}

static bool run_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return false;
    }
    uint8_t *bytes = NULL;
    size_t size = 0, n = 0;
    do {
        size += n;
        uint8_t *more = realloc(bytes, size + MAX_SIZE);
        if (!more) abort();
        bytes = more;
        n = fread(bytes + size, 1, MAX_SIZE, file);
    } while (n > 0);
    (void)fclose(file);
    run_target(bytes, size);
    free(bytes);
    return true;
}

int main(int argc, char **argv) {
    catch_crashes();
    size_t failed = 0;
    if (argc > 1 && !isdigit((unsigned char)argv[1][0])) {
        for (int i = 1; i < argc; ++i)
            failed += !run_file(argv[i]);
    } else {
        const unsigned long long runs = argc > 1 ? strtoull(argv[1], NULL, 10) : DEFAULT_RUNS;
        if (argc > 2) seed = strtoull(argv[2], NULL, 10);
        const unsigned long long first = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
        (void)printf("seed %llu, runs %llu..%llu\n", seed, first, first + runs - (runs > 0));
        (void)fflush(stdout);
        run_mutations(runs, first);
    }
    (void)printf("%zu passed, %zu failed\n", passed, failed);
    return failed == 0 && passed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
