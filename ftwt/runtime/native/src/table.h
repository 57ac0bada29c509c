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
#endif
    (void)size;
    for (int64_t i = 0; i < layout->plane; i++)
        to[i] = layout->from[i] < 0 ? 0 : plane[layout->from[i]];
}
