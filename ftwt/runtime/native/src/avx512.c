/* AVX-512 (foundation, DQ, BW and VL). */
#if defined(__x86_64__) && !defined(FTWT_PORTABLE)
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}

/* After the system's headers, so that only the kernels need the instructions. */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,fma")
#endif

#define LANES 16
#define REGISTERS 32
#define NAME "avx512"
#define TABLE_NAME ftwt_avx512
#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
