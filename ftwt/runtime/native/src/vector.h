/* Vectors of floats of the width that the including file chose with LANES. */
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));
typedef float vec_at __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))

INLINE vec load(const float *from) {
    return *(const vec_at *)from;
}

INLINE void store(float *to, vec v) {
    *(vec_at *)to = v;
}

INLINE vec splat(float x) {
    return x - (vec){0};
}

INLINE vec choose(ivec where, vec yes, vec no) {
    return (vec)((where & (ivec)yes) | (~where & (ivec)no));
}

/* As torch's: not a number stays, being the second of the instruction's operands. */
INLINE vec at_least(vec v, float low) {
#if LANES == 16 && defined(__AVX512F__)
    return (vec)_mm512_max_ps((__m512)splat(low), (__m512)v);
#elif LANES == 8 && defined(__AVX2__)
    return (vec)_mm256_max_ps((__m256)splat(low), (__m256)v);
#else
    return choose(v < low, splat(low), v);
#endif
}

INLINE vec at_most(vec v, float high) {
#if LANES == 16 && defined(__AVX512F__)
    return (vec)_mm512_min_ps((__m512)splat(high), (__m512)v);
#elif LANES == 8 && defined(__AVX2__)
    return (vec)_mm256_min_ps((__m256)splat(high), (__m256)v);
#else
    return choose(v > high, splat(high), v);
#endif
}

INLINE vec larger(vec one, vec two) {
    return choose((one > two) | (one != one), one, two);
}

/* As `larger`, where both are numbers: one instruction instead of four. */
INLINE vec larger_number(vec one, vec two) {
#if LANES == 16 && defined(__AVX512F__)
    return (vec)_mm512_max_ps((__m512)one, (__m512)two);
#elif LANES == 8 && defined(__AVX2__)
    return (vec)_mm256_max_ps((__m256)one, (__m256)two);
#else
    return choose(one > two, one, two);
#endif
}

/* Not zero where a lane of either is no number. */
INLINE int no_numbers(vec one, vec two) {
#if LANES == 16 && defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)one, (__m512)two, _CMP_UNORD_Q);
#elif LANES == 8 && defined(__AVX2__)
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)one, (__m256)two, _CMP_UNORD_Q));
#else
    const ivec none = (one != one) | (two != two);
    int any = 0;
    for (int i = 0; i < LANES; i++) any |= none[i];
    return any;
#endif
}

/* The first `count` lanes; nothing beyond is touched. */
INLINE vec load_some(const float *from, int count) {
#if LANES == 16 && defined(__AVX512F__)
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#elif LANES == 8 && defined(__AVX2__)
    static const int32_t within[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1};
    const __m256i first = _mm256_loadu_si256((const __m256i *)(within + LANES - count));
    return (vec)_mm256_maskload_ps(from, first);
#else
    float lanes[LANES] = {0};
    memcpy(lanes, from, (size_t)count * 4);
    return load(lanes);
#endif
}

/* The first `count` lanes, `other` in the rest. */
INLINE vec keep_some(vec v, int count, float other) {
#if LANES == 16 && defined(__AVX512F__)
    return (vec)_mm512_mask_mov_ps((__m512)splat(other), (__mmask16)((1u << count) - 1), (__m512)v);
#else
    for (int i = 0; i < LANES; i++) v[i] = i < count ? v[i] : other;
    return v;
#endif
}

INLINE void store_some(float *to, vec v, int count) {
#if LANES == 16 && defined(__AVX512F__)
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)v);
#elif LANES == 8 && defined(__AVX2__)
    /* Masked stores are slow on some processors. */
    if (count & 8) {
        store(to, v);
        return;
    }
    __m128 rest = _mm256_castps256_ps128((__m256)v);
    if (count & 4) {
        _mm_storeu_ps(to, rest);
        rest = _mm256_extractf128_ps((__m256)v, 1);
        to += 4;
    }
    if (count & 2) {
        _mm_storel_pi((__m64 *)to, rest);
        rest = _mm_movehl_ps(rest, rest);
        to += 2;
    }
    if (count & 1) _mm_store_ss(to, rest);
#else
    float lanes[LANES];
    store(lanes, v);
    memcpy(to, lanes, (size_t)count * 4);
#endif
}

/* Which lanes of a vector that begins at column `at` lie in a row of `width`. */
#if LANES == 16 && defined(__AVX512F__)
typedef __mmask16 lanes_inside;
#else
typedef ivec lanes_inside;
#endif

INLINE lanes_inside inside_row(int at, int width) {
#if LANES == 16 && defined(__AVX512F__)
    const int below = at < 0 ? -at : 0, above = width - at;
    uint32_t inside = above >= LANES ? 0xffff : above > 0 ? (1u << above) - 1 : 0;
    return (__mmask16)(inside & (below < LANES ? 0xffffu << below : 0));
#else
    ivec inside;
    for (int i = 0; i < LANES; i++) inside[i] = at + i >= 0 && at + i < width ? -1 : 0;
    return inside;
#endif
}

/* Zeros in the other lanes, whose memory is left alone. */
INLINE vec load_inside(const float *from, lanes_inside inside) {
#if LANES == 16 && defined(__AVX512F__)
    return (vec)_mm512_maskz_loadu_ps(inside, from);
#elif LANES == 8 && defined(__AVX2__)
    return (vec)_mm256_maskload_ps(from, (__m256i)inside);
#else
    vec v = {0};
    for (int i = 0; i < LANES; i++)
        if (inside[i]) v[i] = from[i];
    return v;
#endif
}

/* The even lanes of two vectors, or the odd ones, one after the other. */
INLINE vec every_second(vec one, vec two, const int odd) {
#if LANES == 16 && defined(__AVX512F__)
    const __m512i even = _mm512_slli_epi32(
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 1
    );
    const __m512i from = odd ? _mm512_add_epi32(even, _mm512_set1_epi32(1)) : even;
    return (vec)_mm512_permutex2var_ps((__m512)one, from, (__m512)two);
#elif LANES == 8 && defined(__AVX2__)
    const __m256 both = odd ? _mm256_shuffle_ps((__m256)one, (__m256)two, 0xdd)
                            : _mm256_shuffle_ps((__m256)one, (__m256)two, 0x88);
    return (vec)_mm256_permute4x64_pd((__m256d)both, 0xd8);
#else
    vec v;
    for (int i = 0; i < LANES / 2; i++)
        v[i] = one[2 * i + odd], v[LANES / 2 + i] = two[2 * i + odd];
    return v;
#endif
}

/* The lanes whose bits are set, one after the other; `order` has these lanes, a byte each, and up
 * to `room` floats may be overwritten. */
INLINE void store_packed(float *to, vec v, uint32_t bits, uint64_t order, int64_t room) {
    (void)order, (void)room;
#if LANES == 16 && defined(__AVX512F__)
    __m512 packed = _mm512_maskz_compress_ps((__mmask16)bits, (__m512)v);
    store_some(to, (vec)packed, __builtin_popcount(bits));
#elif LANES == 8 && defined(__AVX2__)
    const __m256i lanes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)order));
    const vec packed = (vec)_mm256_permutevar8x32_ps((__m256)v, lanes);
    if (room >= LANES)
        store(to, packed);
    else
        store_some(to, packed, __builtin_popcount(bits));
#else
    float lanes[LANES];
    store(lanes, v);
    if (!bits) return;
    for (int i = 0; i < LANES; i++) {
        *to = lanes[i];
        to += bits >> i & 1;
        if (bits >> i <= 1) break;
    }
#endif
}

/* `count` floats; the last vector begins early. */
INLINE void copy_run(float *to, const float *from, int64_t count) {
    if (count < LANES) {
        store_some(to, load_some(from, (int)count), (int)count);
        return;
    }
    for (int64_t i = 0; i + LANES < count; i += LANES) store(to + i, load(from + i));
    store(to + count - LANES, load(from + count - LANES));
}

INLINE void fill_run(float *to, float value, int64_t count) {
    const vec v = splat(value);
    if (count < LANES) {
        store_some(to, v, (int)count);
        return;
    }
    for (int64_t i = 0; i + LANES < count; i += LANES) store(to + i, v);
    store(to + count - LANES, v);
}

/* Every second of 2 * LANES - 1 floats. */
INLINE vec load_even(const float *from) {
#if LANES == 8 && defined(__AVX2__)
    /* 0 2 8 10 | 4 6 12 14 */
    const __m256 both =
        _mm256_shuffle_ps((__m256)load(from), (__m256)load(from + LANES - 1), 0xd8);
    return (vec)_mm256_permute4x64_pd((__m256d)both, 0xd8);
#else
    vec v;
    for (int i = 0; i < LANES; i++) v[i] = from[2 * i];
    return v;
#endif
}

/* Both halves of a vector in both orders: lane i meets lane i + LANES / 2, and so on down. */
#if LANES == 16 && defined(__AVX512F__)
#define FOLD(v, OP) \
    v = OP(v, (vec)_mm512_shuffle_f32x4((__m512)v, (__m512)v, 0x4e)); \
    v = OP(v, (vec)_mm512_shuffle_f32x4((__m512)v, (__m512)v, 0xb1)); \
    v = OP(v, (vec)_mm512_permute_ps((__m512)v, 0x4e)); \
    v = OP(v, (vec)_mm512_permute_ps((__m512)v, 0xb1));
#elif LANES == 8 && defined(__AVX__)
#define FOLD(v, OP) \
    v = OP(v, (vec)_mm256_permute2f128_ps((__m256)v, (__m256)v, 1)); \
    v = OP(v, (vec)_mm256_permute_ps((__m256)v, 0x4e)); \
    v = OP(v, (vec)_mm256_permute_ps((__m256)v, 0xb1));
#else
#define FOLD(v, OP) \
    for (int half = LANES / 2; half; half /= 2) { \
        vec other = v; \
        for (int i = 0; i < half; i++) other[i] = v[i + half]; \
        v = OP(v, other); \
    }
#endif

INLINE vec sum_both(vec one, vec two) {
    return one + two;
}

INLINE float sum_of(vec v) {
    FOLD(v, sum_both)
    return v[0];
}

/* Of numbers. */
INLINE float max_of(vec v) {
    FOLD(v, larger_number)
    return v[0];
}

/* exp by range reduction to |r| <= ln 2 / 2 and a polynomial (Cephes' expf; 2 units in the last
 * place). */
INLINE vec exponential(vec x) {
    x = at_most(at_least(x, -87.3f), 88.3f);
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    vec shifted = x * 1.44269504088896341f + magic;
    vec n = shifted - magic;
    vec r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    ivec power = (ivec)shifted - (ivec)splat(magic);
    return p * (vec)((power + 127) << 23);
}

INLINE vec sigmoid(vec v) {
    return 1.0f / (1.0f + exponential(-v));
}

INLINE vec activate(vec v, int kind) {
    switch (kind) {
    case ACT_RELU: return at_least(v, 0.0f);
    case ACT_RELU6: return at_most(at_least(v, 0.0f), 6.0f);
    case ACT_HARDSWISH: return v * at_most(at_least(v + 3.0f, 0.0f), 6.0f) * (1.0f / 6.0f);
    case ACT_SILU: return v * sigmoid(v);
    case ACT_HARDSIGMOID: return at_most(at_least(v + 3.0f, 0.0f), 6.0f) * (1.0f / 6.0f);
    case ACT_SIGMOID: return sigmoid(v);
    default: return v;
    }
}

/* Calls RUN with a usual activation known beforehand, so that no loop asks for it. */
#define FOR_ACTIVATION(KIND, RUN) \
    switch (KIND) { \
    case ACT_NONE: RUN(ACT_NONE); break; \
    case ACT_RELU: RUN(ACT_RELU); break; \
    default: RUN(KIND); \
    }

INLINE void activate_run_as(
    const float *from, float *to, int64_t count, const int kind
) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) store(to + i, activate(load(from + i), kind));
    if (i < count)
        store_some(to + i, activate(load_some(from + i, (int)(count - i)), kind), (int)(count - i));
}

INLINE void add_run_as(
    const float *one, const float *two, float *to, int64_t count, const int kind
) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        store(to + i, activate(load(one + i) + load(two + i), kind));
    if (i == count) return;
    const int rest = (int)(count - i);
    store_some(to + i, activate(load_some(one + i, rest) + load_some(two + i, rest), kind), rest);
}

/* to = the activation of `count` floats. */
static void activate_run(const float *from, float *to, int64_t count, int kind) {
#define ACTIVATE(KIND) activate_run_as(from, to, count, KIND)
    FOR_ACTIVATION(kind, ACTIVATE)
#undef ACTIVATE
}

/* to = the activation of one + two, `count` floats. */
INLINE void add_run(const float *one, const float *two, float *to, int64_t count, int kind) {
#define ADD(KIND) add_run_as(one, two, to, count, KIND)
    FOR_ACTIVATION(kind, ADD)
#undef ADD
}
