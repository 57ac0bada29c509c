/* What follows the sums of a convolution. */

static void pool_plane(
    const ftwt_window *window, int kind, const float *from, int height, int width, float *to,
    int out_height, int out_width
);

/* Stores P vectors of F filters from vector `first` on, after the activation. Positions up to `end`
 * of a plane are this caller's, who comes to them in order. */
INLINE void finish_with(
    const ftwt_layout *layout, const int activation, const float *result, int filters, int vectors,
    int first, float *const *to, int64_t end
) {
    for (int f = 0; f < filters; f++) {
        for (int p = 0; p < vectors; p++) {
            vec v = activate(load(result + (f * vectors + p) * LANES), activation);
            float *place = to[f] + layout->place[first + p];
            uint32_t valid = layout->valid[first + p];
            if (valid == (uint32_t)((1ull << LANES) - 1))
                store(place, v);
            else
                store_packed(
                    place, v, valid, layout->order[first + p], end - layout->place[first + p]
                );
        }
    }
}

/* The usual activations each with a loop of their own. */
static void finish(
    const ftwt_layout *layout, int activation, const float *result, int filters, int vectors,
    int first, float *const *to, int64_t end
) {
#define FINISH(KIND) finish_with(layout, KIND, result, filters, vectors, first, to, end)
    switch (activation) {
    case ACT_NONE: FINISH(ACT_NONE); return;
    case ACT_RELU: FINISH(ACT_RELU); return;
    case ACT_RELU6: FINISH(ACT_RELU6); return;
    default: FINISH(activation);
    }
#undef FINISH
}
