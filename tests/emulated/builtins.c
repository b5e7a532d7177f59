/* SPDX-License-Identifier: MIT
 * Functions of OpenCL C that say nothing of work-items, under the names that clang gives them. */
#include "ref/convert.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned int uint;

int _Z3minii(int a, int b) {
    return a < b ? a : b;
}
int _Z3maxii(int a, int b) {
    return a > b ? a : b;
}
uint _Z3minjj(uint a, uint b) {
    return a < b ? a : b;
}
uint _Z3maxjj(uint a, uint b) {
    return a > b ? a : b;
}
long _Z3minll(long a, long b) {
    return a < b ? a : b;
}
long _Z3maxll(long a, long b) {
    return a > b ? a : b;
}
uint _Z6rotatejj(uint v, uint n) {
    return v << n % 32 | v >> (32 - n % 32) % 32;
}
float _Z3fmafff(float a, float b, float c) {
    return fmaf(a, b, c);
}
float _Z4fabsf(float v) {
    return fabsf(v);
}
float _Z8copysignff(float v, float sign) {
    return copysignf(v, sign);
}
uint _Z5clampjjj(uint v, uint low, uint high) {
    return v < low ? low : v > high ? high : v;
}
float _Z10native_expf(float v) {
    return expf(v);
}
float _Z13native_divideff(float a, float b) {
    return a / b;
}
float _Z10vload_halfmPU9CLprivateKDh(size_t i, const uint16_t *from) {
    return ref_f16_to_f32(from[i]);
}
void _Z15vstore_half_rtefmPU9CLprivateDh(float v, size_t i, uint16_t *to) {
    to[i] = ref_f16_from_f32(v);
}
void _Z15vstore_half_rtefmPU8CLglobalDh(float v, size_t i, uint16_t *to) {
    to[i] = ref_f16_from_f32(v);
}
