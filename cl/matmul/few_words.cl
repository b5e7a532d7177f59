// SPDX-License-Identifier: MIT
// Formats that kernels for few rows load by words; the same list is in lib/kernel/matmul_few.c.
#define WORDS_Q8_0 1
#define WORDS_Q4_0 2
#define WORDS_Q5_0 3
#define WORDS_MXFP4 4
#define WORDS_Q4_K 5
#define WORDS_Q5_K 6
#define WORDS_Q6_K 7
#define WORDS_I8 8
#define WORDS_F8_E4M3 9
#define WORDS_F4_E2M1 10
