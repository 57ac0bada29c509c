/* AVX2 with FMA. */
#if defined(__x86_64__) && !defined(FTWT_PORTABLE)
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int supported(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* After the system's headers, so that only the kernels need the instructions. */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define LANES 8
#define REGISTERS 16
#define NAME "avx2"
#define TABLE_NAME ftwt_avx2
#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
