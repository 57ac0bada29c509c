/* Planes laid out by a table of places, for small ones where loops over rows take longest. */

/* The position of a plane under tap `tap` at output position `position`, -1 outside. */
static int under(const ftwt_step *step, const ftwt_value *in, int position, int tap) {
    const ftwt_window *w = &step->window;
    if (position >= step->middle[0] * step->middle[1]) return -1;
    int y = position / step->middle[1] * w->stride[0] - w->padding[0] +
            tap / w->kernel[1] * w->dilation[0];
    int x = position % step->middle[1] * w->stride[1] - w->padding[1] +
            tap % w->kernel[1] * w->dilation[1];
    if (y < 0 || y >= in->height || x < 0 || x >= in->width) return -1;
    return y * in->width + x;
}

/* Whether there was memory for a table of whole vectors. */
static int has_table(ftwt_layout *layout) {
    layout->from = calloc((size_t)layout->plane, sizeof *layout->from);
    return layout->from != 0;
}

#if LANES == 8 && defined(__AVX2__)
/* The floats of `x` and `y`, one after the other, that a table asks for; zeros for -1. */
INLINE vec pick_lanes(vec x, vec y, const int32_t *table) {
    const __m256i from = _mm256_loadu_si256((const __m256i *)table);
    const __m256 low = _mm256_permutevar8x32_ps((__m256)x, from);
    const __m256 high = _mm256_permutevar8x32_ps((__m256)y, from);
    const __m256 second = _mm256_castsi256_ps(_mm256_slli_epi32(from, 28));
    const __m256 none = _mm256_castsi256_ps(_mm256_srai_epi32(from, 31));
    return (vec)_mm256_andnot_ps(none, _mm256_blendv_ps(low, high, second));
}

/* Up to 2 * LANES floats into two vectors. */
INLINE void load_both(const float *plane, int size, vec *x, vec *y) {
    *x = size < LANES ? load_some(plane, size) : load(plane);
    *y = size > LANES ? load_some(plane + LANES, size - LANES) : splat(0);
}
#endif

/* A plane of `size` floats into a layout with a table. */
static void pack_table(const ftwt_layout *layout, const float *plane, int size, float *to) {
#if LANES == 16 && defined(__AVX512F__)
    if (size <= LANES) {
        const __m512 x = (__m512)load_some(plane, size);
        for (int64_t i = 0; i < layout->plane; i += LANES) {
            const __m512i from = _mm512_loadu_si512(layout->from + i);
            const __mmask16 inside = _mm512_cmpge_epi32_mask(from, _mm512_setzero_si512());
            store(to + i, (vec)_mm512_maskz_permutexvar_ps(inside, from, x));
        }
        return;
    }
#elif LANES == 8 && defined(__AVX2__)
    if (size <= 2 * LANES) {
        vec x, y;
        load_both(plane, size, &x, &y);
        for (int64_t i = 0; i < layout->plane; i += LANES)
            store(to + i, pick_lanes(x, y, layout->from + i));
        return;
    }
#endif
    (void)size;
    for (int64_t i = 0; i < layout->plane; i++)
        to[i] = layout->from[i] < 0 ? 0 : plane[layout->from[i]];
}
