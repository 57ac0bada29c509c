/* Convolutions with up to four positions, where vectors of positions would be mostly empty.
 *
 * A vector holds SHARE consecutive weights for each of four positions instead. Those weights are
 * taps of one input, or with a 1x1 kernel a group of SHARE inputs, the dead among them as zeros.
 * They are loaded once and repeated by the load itself; the sums of SHARE lanes are added at the end.
 */
enum { POSITIONS = 4, SHARE = LANES / POSITIONS };

/* As TAPS weights of an input: units of SHARE, the last of which begins early. */
#define UNITS_OF(TAPS) (((TAPS) + SHARE - 1) / SHARE)

static int is_few(const ftwt_value *in, const ftwt_step *step, int taps) {
    return SHARE > 1 && step->groups == 1 && step->middle[0] * step->middle[1] <= POSITIONS &&
           (taps >= SHARE || (taps == 1 && in->channels % SHARE == 0));
}

static void arrange_few(ftwt_layout *layout) {
    const int units = UNITS_OF(layout->taps);
    layout->kind = LAYOUT_FEW;
    layout->vectors = 1;
    layout->plane = (int64_t)units * LANES;
    for (int u = 0; u < units; u++) {
        int last = layout->taps - SHARE;
        layout->shift[u] = layout->taps == 1 ? 0 : u * SHARE < last ? u * SHARE : last;
    }
}

INLINE vec repeat(const float *weights) {
#if LANES == 16 && defined(__AVX512F__)
    return (vec)_mm512_broadcast_f32x4(_mm_loadu_ps(weights));
#elif LANES == 8 && defined(__AVX__)
    return (vec)_mm256_broadcast_sd((const double *)weights);
#else
    vec all;
    for (int i = 0; i < LANES; i++) all[i] = weights[i % SHARE];
    return all;
#endif
}

/* For each float of a packed input or group its place in the first plane, -1 for a zero. */
static int tabulate_few(ftwt_layout *layout, const ftwt_step *step, const ftwt_value *in) {
    if (!has_table(layout)) return FTWT_MEMORY;
    for (int i = 0; i < layout->plane; i++) {
        int unit = i / LANES, position = i % LANES / SHARE, k = i % SHARE;
        int tap = layout->taps == 1 ? 0 : layout->shift[unit] + k;
        layout->from[i] = under(step, in, position, tap);
        /* Weights that an earlier unit had. */
        if (layout->taps > 1 && tap < unit * SHARE) layout->from[i] = -1;
        if (layout->taps == 1 && layout->from[i] >= 0)
            layout->from[i] += k * in->height * in->width;
    }
    return FTWT_OK;
}

/* SHARE planes side by side, the dead among them as zeros. */
static void pack_group(const ftwt_layout *layout, const float *planes, const uint8_t *live,
                       int size, float *to) {
#if LANES == 16 && defined(__AVX512F__)
    if (size * SHARE <= LANES) {
        uint32_t flags = 0;
        for (int k = 0; k < SHARE; k++) flags |= (uint32_t)live[k] << k;
        const __m512i from = _mm512_loadu_si512(layout->from);
        const uint32_t outside = _mm512_movepi32_mask(from);
        const __mmask16 keep = (__mmask16)(flags * 0x1111 & ~outside);
        const vec x = load_some(planes, size * SHARE);
        store(to, (vec)_mm512_maskz_permutexvar_ps(keep, from, (__m512)x));
        return;
    }
#elif LANES == 8 && defined(__AVX2__)
    if (size * SHARE <= 2 * LANES) {
        vec x, y;
        load_both(planes, size * SHARE, &x, &y);
        const uint64_t both = (live[0] ? 0xffffffffull : 0) | (live[1] ? ~0xffffffffull : 0);
        const __m256 keep = _mm256_castsi256_ps(_mm256_set1_epi64x((long long)both));
        store(to, (vec)_mm256_and_ps(keep, (__m256)pick_lanes(x, y, layout->from)));
        return;
    }
#endif
    (void)size;
    for (int i = 0; i < LANES; i++)
        to[i] = layout->from[i] < 0 || !live[i % SHARE] ? 0 : planes[layout->from[i]];
}

/* Inputs, or groups of them, of one sample: the `first` of its list and those that follow. */
static void pack_few(
    ftwt_plan *plan, const ftwt_work *work, int sample, int first, int count, float *packed
) {
    const ftwt_step *step = work->step;
    const ftwt_layout *layout = work->layout;
    const ftwt_value *in = &plan->program.value[step->source[0]];
    const ftwt_live *live = ftwt_live_in(plan, step->source[0], sample);
    const ftwt_live *few = &work->few[sample];
    const int size = in->height * in->width;
    for (int j = first; j < few->count && j < first + count; j++) {
        const int channel = layout->taps == 1 ? few->list[j] * SHARE : few->list[j];
        const float *planes = ftwt_plane(plan, step->source[0], sample, channel);
        float *to = packed + j * layout->plane;
        if (layout->taps == 1)
            pack_group(layout, planes, live->flag + channel, size, to);
        else
            pack_table(layout, planes, size, to);
    }
}

/* UNITS 0 reads their number from the work. */
INLINE void micro_few(const micro_work *work, const int F, const int UNITS) {
    vec sum[MOST_FILTERS], odd[MOST_FILTERS];
    const int units = UNITS ? UNITS : UNITS_OF(work->taps);
    const int taps = work->taps == 1 ? SHARE : work->taps;
    const float *x = work->input;
    const int asks = work->soon[0] != 0;
#pragma GCC unroll 8
    for (int f = 0; f < F; f++) sum[f] = splat(0), odd[f] = splat(0);
    for (int i = 0; i < work->inputs; i++) {
        const int64_t at = (int64_t)work->channel[i] * taps;
        if (UNITS != 1) {
            const int64_t soon =
                (int64_t)work->channel[i + AHEAD < work->inputs ? i + AHEAD : i] * taps;
#pragma GCC unroll 8
            for (int f = 0; f < F; f++) __builtin_prefetch(work->weight[f] + soon);
        } else if (asks && i % (MOST_LANES / SHARE) == 0) {
#pragma GCC unroll 8
            for (int f = 0; f < F; f++) ASK_FOR(work->soon[f] + at);
        }
#pragma GCC unroll 5
        for (int u = 0; u < units; u++, x += LANES) {
            const vec in = load(x);
            const int64_t from = at + work->shift[u];
#pragma GCC unroll 8
            for (int f = 0; f < F; f++)
                if (u % 2)
                    odd[f] += in * repeat(work->weight[f] + from);
                else
                    sum[f] += in * repeat(work->weight[f] + from);
        }
    }
#pragma GCC unroll 8
    for (int f = 0; f < F; f++) store(work->result + f * LANES, sum[f] + odd[f]);
}

#define FEW(F) \
    static void few_##F##_any(const micro_work *work) { micro_few(work, F, 0); } \
    static void few_##F##_one(const micro_work *work) { micro_few(work, F, 1); } \
    static void few_##F##_nine(const micro_work *work) { micro_few(work, F, UNITS_OF(9)); }
FEW(1) FEW(2) FEW(3) FEW(4) FEW(5) FEW(6) FEW(7) FEW(8)
#define FEW_ROW(N) \
    {few_1_##N, few_2_##N, few_3_##N, few_4_##N, few_5_##N, few_6_##N, few_7_##N, few_8_##N}

static void make_few(
    micro_work *work, const ftwt_step *step, int filters, float *const *planes
) {
    static micro_kernel *const any[MOST_FILTERS] = FEW_ROW(any);
    static micro_kernel *const one[MOST_FILTERS] = FEW_ROW(one);
    static micro_kernel *const nine[MOST_FILTERS] = FEW_ROW(nine);
    float result[MOST_FILTERS * LANES] __attribute__((aligned(64)));
    const int positions = step->middle[0] * step->middle[1];
    work->result = result;
    if (UNITS_OF(work->taps) == 1)
        one[filters - 1](work);
    else if (work->taps == 9)
        nine[filters - 1](work);
    else
        any[filters - 1](work);
    for (int f = 0; f < filters; f++) {
        vec sums = splat(0);
        for (int p = 0; p < positions; p++) {
            float sum = work->bias[f];
            for (int k = 0; k < SHARE; k++) sum += result[f * LANES + p * SHARE + k];
            sums[p] = sum;
        }
        store_some(planes[f], activate(sums, step->activation), positions);
    }
}
