/* The kernels that multiply: F filters times P vectors of positions, in registers. */

typedef struct {
    const float *input;      /* of the first position */
    int64_t plane;           /* floats from input to input */
    const int32_t *order;    /* for each live input its plane */
    const int32_t *channel;  /* for each live input its place in the weights */
    const int32_t *shift;
    int32_t inputs, taps;
    const float *weight[MOST_FILTERS];
    const float *soon[MOST_FILTERS]; /* null, or with 1x1 kernels the weights of the next call */
    float bias[MOST_FILTERS];
    float *result;           /* F x P vectors */
    float *to[MOST_FILTERS]; /* null, or with 1x1 kernels where results go, between two bounds */
    float low, high;
    int32_t last;            /* lanes of the last vector that go there */
    const uint32_t *inside;  /* for each column of a 3x3 kernel the lanes that it finds inside */
} micro_work;

typedef void micro_kernel(const micro_work *work);

/* Inputs between reading a weight's cache line and asking for it. */
enum { AHEAD = 24 };

/* A number of taps that stands for a 3x3 kernel whose input has no columns of zeros beside it. */
enum { MASKED = 33 };
/* One that stands for three taps of such a kernel. */
enum { MASKED_ROW = 35 };
/* One that stands for a 1x1 kernel whose weights come from far, and that asks for the next ones. */
enum { STREAMED = 34 };

INLINE vec load_tap(const float *tap, const uint32_t *inside, const int t) {
#if LANES == 16 && defined(__AVX512F__)
    if (t % 3 != 1) return (vec)_mm512_maskz_loadu_ps((__mmask16)inside[t % 3], tap);
#endif
    (void)inside, (void)t;
    return load(tap);
}

/* Live inputs between asking for cache lines of the next call's weights: rows of 1x1 kernels are
 * short, and each begins where the processor has not been. */
enum { ASKING = 8 };

/* Into the second cache: the first holds what this call reads. */
#define ASK_FOR(ADDRESS) __builtin_prefetch(ADDRESS, 0, 2)

/* TAPS 0 reads their number from the work. */
INLINE void micro(const micro_work *work, const int F, const int P, const int KIND) {
    const int TAPS = KIND == MASKED ? 9 : KIND == MASKED_ROW ? 3 : KIND == STREAMED ? 1 : KIND;
    const int masked = KIND == MASKED || KIND == MASKED_ROW;
    /* Few sums would wait for each other: then odd taps have sums of their own. */
    const int ways = F * P <= 4 && (TAPS == 9 || TAPS == 3) ? 2 : 1;
    vec sum[MOST_FILTERS][MOST_VECTORS], odd[MOST_FILTERS][MOST_VECTORS];
    const float *weight[MOST_FILTERS];
    const int taps = TAPS ? TAPS : work->taps, inputs = work->inputs;
    const int64_t plane = work->plane;
    const float *input = work->input;
    const uint32_t inside[3] = {
        masked ? work->inside[0] : 0, 0, masked ? work->inside[2] : 0
    };
    const int32_t *order = work->order, *channel = work->channel, *shift = work->shift;
#pragma GCC unroll 8
    for (int f = 0; f < F; f++) {
        weight[f] = work->weight[f];
#pragma GCC unroll 6
        for (int p = 0; p < P; p++) {
            sum[f][p] = splat(work->bias[f]);
            if (ways == 2) odd[f][p] = splat(0);
        }
    }
    const int asks = KIND == STREAMED;
    for (int i = 0; i < inputs; i++) {
        const float *x = input + order[i] * plane;
        const int64_t at = (int64_t)channel[i] * taps;
        if (TAPS != 1 && TAPS != 3) {
            /* Weights of live inputs are too irregular for the processor to foresee. */
            const int64_t soon = (int64_t)channel[i + AHEAD < inputs ? i + AHEAD : i] * taps;
#pragma GCC unroll 8
            for (int f = 0; f < F; f++) __builtin_prefetch(weight[f] + soon);
        } else if (asks && i % ASKING == 0) {
#pragma GCC unroll 8
            for (int f = 0; f < F; f++) ASK_FOR(work->soon[f] + at);
        }
#pragma GCC unroll 9
        for (int t = 0; t < taps; t++) {
            const float *tap = TAPS == 1 ? x : x + shift[t];
            vec in[MOST_VECTORS];
#pragma GCC unroll 6
            for (int p = 0; p < P; p++)
                in[p] = masked ? load_tap(tap + p * LANES, inside, t) : load(tap + p * LANES);
#pragma GCC unroll 8
            for (int f = 0; f < F; f++) {
                const float w = weight[f][at + t];
#pragma GCC unroll 6
                for (int p = 0; p < P; p++)
                    if (ways == 2 && t % 2)
                        odd[f][p] += in[p] * w;
                    else
                        sum[f][p] += in[p] * w;
            }
        }
    }
    if (TAPS == 1 && work->to[0]) {
        const int whole = work->last == LANES ? P : P - 1;
#pragma GCC unroll 8
        for (int f = 0; f < F; f++) {
            float *to = work->to[f];
#pragma GCC unroll 6
            for (int p = 0; p < P; p++) {
                const vec v = at_most(at_least(sum[f][p], work->low), work->high);
                if (p < P - 1 || whole == P)
                    store(to + p * LANES, v);
                else
                    store_some(to + p * LANES, v, work->last);
            }
        }
        return;
    }
#pragma GCC unroll 8
    for (int f = 0; f < F; f++)
#pragma GCC unroll 6
        for (int p = 0; p < P; p++)
            store(
                work->result + (f * P + p) * LANES,
                ways == 2 ? sum[f][p] + odd[f][p] : sum[f][p]
            );
}

#define MICRO(F, P, TAPS) \
    static void micro_##F##_##P##_##TAPS(const micro_work *work) { micro(work, F, P, TAPS); }
#define MICRO_STREAMED(F, P) \
    static void micro_##F##_##P##_s(const micro_work *work) { micro(work, F, P, STREAMED); }
#define MICRO_TAPS(F, P) MICRO(F, P, 0) MICRO(F, P, 1) MICRO(F, P, 3) MICRO(F, P, 9) MICRO_STREAMED(F, P)
#define MICRO_TO_4(P) MICRO_TAPS(1, P) MICRO_TAPS(2, P) MICRO_TAPS(3, P) MICRO_TAPS(4, P)
#define MICRO_TO_6(P) MICRO_TO_4(P) MICRO_TAPS(5, P) MICRO_TAPS(6, P)
#define MICRO_TO_8(P) MICRO_TO_6(P) MICRO_TAPS(7, P) MICRO_TAPS(8, P)
#define ROW_4(P, T) micro_1_##P##_##T, micro_2_##P##_##T, micro_3_##P##_##T, micro_4_##P##_##T
#define ROW_6(P, T) ROW_4(P, T), micro_5_##P##_##T, micro_6_##P##_##T
#define ROW_8(P, T) ROW_6(P, T), micro_7_##P##_##T, micro_8_##P##_##T

#if REGISTERS == 32
enum { BEST_VECTORS = 6 };
MICRO_TO_8(1)
MICRO_TO_8(2)
MICRO_TO_8(3)
MICRO_TO_6(4)
MICRO_TO_4(5)
MICRO_TAPS(5, 5)
MICRO_TO_4(6)
#define FILTERS {0, 8, 8, 8, 6, 5, 4}
#define TABLE(T) \
    {{0}, {ROW_8(1, T)}, {ROW_8(2, T)}, {ROW_8(3, T)}, {ROW_6(4, T)}, \
     {ROW_4(5, T), micro_5_5_##T}, {ROW_4(6, T)}}
#else
enum { BEST_VECTORS = 3 };
MICRO_TO_8(1)
MICRO_TO_6(2)
MICRO_TO_4(3)
#define FILTERS {0, 8, 6, 4, 0, 0, 0}
#define TABLE(T) {{0}, {ROW_8(1, T)}, {ROW_6(2, T)}, {ROW_4(3, T)}, {0}, {0}, {0}}
#endif

#if LANES == 16
/* Up to four vectors, whole rows in each. */
enum { MASKED_VECTORS = 4 };
#define MICRO_MASKED(F, P) \
    static void micro_##F##_##P##_m(const micro_work *work) { micro(work, F, P, MASKED); } \
    static void micro_##F##_##P##_r(const micro_work *work) { micro(work, F, P, MASKED_ROW); }
#define MASKED_TO_6(P) \
    MICRO_MASKED(1, P) MICRO_MASKED(2, P) MICRO_MASKED(3, P) MICRO_MASKED(4, P) \
    MICRO_MASKED(5, P) MICRO_MASKED(6, P)
#define MASKED_TO_8(P) MASKED_TO_6(P) MICRO_MASKED(7, P) MICRO_MASKED(8, P)
MASKED_TO_8(1)
MASKED_TO_8(2)
MASKED_TO_8(3)
MASKED_TO_6(4)
#else
enum { MASKED_VECTORS = 0 };
#endif

static const int32_t most_filters[MOST_VECTORS + 1] = FILTERS;

static void run_micro(const micro_work *work, int filters, int vectors) {
    static micro_kernel *const any[MOST_VECTORS + 1][MOST_FILTERS] = TABLE(0);
    static micro_kernel *const one[MOST_VECTORS + 1][MOST_FILTERS] = TABLE(1);
    static micro_kernel *const three[MOST_VECTORS + 1][MOST_FILTERS] = TABLE(3);
    static micro_kernel *const nine[MOST_VECTORS + 1][MOST_FILTERS] = TABLE(9);
    static micro_kernel *const streamed[MOST_VECTORS + 1][MOST_FILTERS] = TABLE(s);
#if LANES == 16
    static micro_kernel *const masked[MASKED_VECTORS + 1][MOST_FILTERS] = {
        {0}, {ROW_8(1, m)}, {ROW_8(2, m)}, {ROW_8(3, m)}, {ROW_6(4, m)}
    };
    static micro_kernel *const masked_row[MASKED_VECTORS + 1][MOST_FILTERS] = {
        {0}, {ROW_8(1, r)}, {ROW_8(2, r)}, {ROW_8(3, r)}, {ROW_6(4, r)}
    };
    if (work->inside) {
        (work->taps == 3 ? masked_row : masked)[vectors][filters - 1](work);
        return;
    }
#endif
    if (work->taps == 1 && work->soon[0])
        streamed[vectors][filters - 1](work);
    else if (work->taps == 1)
        one[vectors][filters - 1](work);
    else if (work->taps == 3)
        three[vectors][filters - 1](work);
    else if (work->taps == 9)
        nine[vectors][filters - 1](work);
    else
        any[vectors][filters - 1](work);
}
